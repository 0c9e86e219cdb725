"""README.md of a set: the dataset card that the Hugging Face Hub shows.

A pure function of the manifest: no times, no paths. What comes from films' rows, captions' models
and recipes stands in code spans, whose end it cannot write; the front matter is dumped by a YAML
writer and holds nothing foreign but the recipe's name.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from corpus.ids import canonical_json
from corpus.shards.globs import globs
from corpus.shards.manifest import SPLITS
from corpus.shards.words import LOADING, NOTES

LEVELS = ("videos", "shots", "clips", "segments")
SHOWN = 100  # of any list
LONGEST = 300  # characters of a value
# Licences as people write them, and as the Hub calls them.
LICENCES = {
    "cc0": "cc0-1.0",
    "public domain": "cc0-1.0",
    "cc by": "cc-by-4.0",
    "cc by sa": "cc-by-sa-4.0",
    "cc by nc": "cc-by-nc-4.0",
    "cc by nc sa": "cc-by-nc-sa-4.0",
    "cc by nd": "cc-by-nd-4.0",
    "cc by nc nd": "cc-by-nc-nd-4.0",
    "apache": "apache-2.0",
}
LICENCES |= {f"{name} {ours.rpartition('-')[2]}": ours for name, ours in LICENCES.items()}
LICENCES |= {
    **{f"cc by {part}3.0": f"cc-by-{part.replace(' ', '-')}3.0" for part in ("", "sa ", "nc ")},
    **{"mit": "mit", "bsd 3 clause": "bsd-3-clause", "odc by": "odc-by"},
}
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


def card(manifest: Mapping[str, Any]) -> str:
    """The card of a set.

    Args:
        manifest: all of it but ``files`` and ``digest``.
    """
    manifest = json.loads(canonical_json(manifest))  # as it is read back: keys have no order
    name = str(manifest.get("recipe", {}).get("name", "corpus"))
    parts = [
        f"# Interleaved captions and video latents, by the recipe {code(name)}",
        NOTES["what"],
        *_contents(manifest),
        *_sources(manifest["contents"]),
        *_selection(manifest),
        *_making(manifest),
        LOADING,
        NOTES["limits"],
    ]
    return f"---\n{_front(manifest, name)}---\n\n" + "\n\n".join(parts) + "\n"


def code(value: Any) -> str:
    """A foreign value as a code span: nothing in it is markup, and it ends neither span nor row."""
    text = value if isinstance(value, str) else canonical_json(value)
    plain = "".join(c if c.isprintable() else " " for c in text)
    plain = " ".join(plain.replace("`", "'").replace("|", "\N{BROKEN BAR}").split())
    if len(plain) > LONGEST:
        plain = plain[:LONGEST] + "..."
    return f"`{plain}`" if plain else "not stated"


# -- the front matter -------------------------------------------------------------------------


def _front(manifest: Mapping[str, Any], name: str) -> str:
    samples = manifest["totals"]["samples"]
    sizes = (label for bound, label in SIZES if samples < bound)
    front: dict[str, Any] = {
        "pretty_name": " ".join(f"TV2TV shards, recipe {name}".split())[:80],
        "license": _licence(manifest["contents"]["licence"]),
        "task_categories": ["text-to-video", "image-to-video"],
        "tags": ["webdataset", "video", "latents", "interleaved", "captions", "tv2tv"],
        "size_categories": [next(sizes, "n>1M" if samples < 10**7 else "n>10M")],
    }
    if files := _data_files(manifest["shards"]):
        front["configs"] = [{"config_name": "default", "data_files": files}]
        if manifest["contents"]["members"]:
            front["dataset_info"] = {"features": _features(manifest["contents"]["members"])}
    return str(yaml.safe_dump(front, sort_keys=False, allow_unicode=False, width=100))


def _licence(found: Mapping[str, int]) -> str | list[str]:
    """Licences as the Hub knows them, ``other``, or ``unknown`` if one is missing."""
    known = set()
    for value in found:
        plain = " ".join(value.lower().replace("-", " ").replace("_", " ").split())
        known.add(LICENCES.get(plain, "other") if plain else "unknown")
    if not known or "unknown" in known:
        return "unknown"
    return known.pop() if len(known) == 1 else sorted(known)


def _data_files(shards: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    numbers: dict[str, list[int]] = {}
    for number, shard in enumerate(shards):
        numbers.setdefault(shard["split"], []).append(number)
    return [
        {
            "split": split,
            "path": [f"shard-{one}.tar" for one in globs(found[0], found[-1], 6)],
        }
        for split, found in ((split, numbers[split]) for split in SPLITS if split in numbers)
    ]


def _features(arrays: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns by name. The json members are declared as such: a type guessed from a few samples
    would not fit the scores or columns that others have."""
    found: list[dict[str, Any]] = []
    for name, told in arrays.items():
        nested: Any = "json" if told == "json" else "video"
        if isinstance(told, list):
            dtype, axes = told
            nested = "uint16" if dtype == "bfloat16" else dtype
            for _ in range(axes):
                nested = {"list": nested}
        found.append({"name": name, **(nested if isinstance(nested, dict) else {"dtype": nested})})
    return [*found, *({"name": name, "dtype": "string"} for name in ("__key__", "__url__"))]


# -- the text ---------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _contents(manifest: Mapping[str, Any]) -> list[str]:
    contents, chunk = manifest["contents"], _chunk(manifest)
    captions, splits = contents["captions"], contents["splits"]
    rows = [
        [split, f"{one['samples']:,}", f"{one['videos']:,}", f"{one['chunks']:,}"]
        + ([_length(one["chunks"] * chunk)] if chunk else [])
        for split, one in splits.items()
    ]
    head = ["split", "clips", "videos", "chunks", *(["length"] if chunk else [])]
    shown, chunks = captions["shown"], manifest["totals"]["chunks"]
    told = [f"{captions['segments']:,} segments, {shown:,} of them with a caption that was kept"]
    if shown:
        told.append(f"{captions['words'] / shown:.1f} words each")
    if shown and chunk:
        told.append(f"one per {chunks * chunk / shown:.2f} s of video")
    told.append(f"{captions['meta']:,} clips with a caption of the whole")
    if captions["ladders"]:
        told.append(f"{captions['ladders']:,} captions made for other densities")
    split = "Clips of one video are all in one split."
    return ["## Contents", _table(head, rows), f"{'; '.join(told)}. {split}"]


def _length(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


def _chunk(manifest: Mapping[str, Any]) -> float:
    """Seconds; 0 where there is no clock."""
    clock = manifest.get("clock") or {}
    return clock["frames_per_chunk"] / clock["fps"] if clock else 0.0


def _sources(contents: Mapping[str, Any]) -> list[str]:
    parts = ["## Sources and licences"]
    columns = contents["columns"]
    for about, head in (("licence", "licence"), ("source", "source"), ("author", "author")):
        found = contents[about]
        if about != "licence" and set(found) <= {""}:
            continue
        where = ", ".join(code(name) for name in columns[about])
        parts += [f"By the films' columns {where}:", _counted(head, found)]
    return parts


def _counted(head: str, found: Mapping[str, int]) -> str:
    ordered = sorted(found.items(), key=lambda one: (-one[1], one[0]))
    rows = [[code(value), f"{count:,}"] for value, count in ordered[:SHOWN]]
    if rest := sum(count for _, count in ordered[SHOWN:]):
        rows.append(["others", f"{rest:,}"])
    return _table([head, "clips"], rows or [["not stated", "0"]])


def _selection(manifest: Mapping[str, Any]) -> list[str]:
    """Thresholds, and what they and everything else took."""
    parts = ["## Selection"]
    thresholds = [
        [
            stage,
            code(score),
            *(code(f"{bound[score]:g}") if score in bound else "" for bound in both),
        ]
        for stage, both in _bounds(manifest)
        for score in sorted({*both[0], *both[1]})
    ]
    if thresholds:
        parts.append(_table(["stage", "score", "at least", "at most"], thresholds))
    if counts := manifest.get("counts"):
        parts.append(_table(["level", "outcome", "reason", "count"], _outcomes(counts)))
    if policy := manifest.get("policy"):
        parts.append(f"This is a view: its captions are what this policy shows: {code(policy)}")
    return parts if len(parts) > 1 else []


def _bounds(manifest: Mapping[str, Any]) -> Iterator[tuple[str, tuple[dict[str, float], ...]]]:
    """(stage, (at least, at most)) of each stage that has thresholds."""
    for stage, settings in _stages(manifest):
        if not isinstance(settings, dict) or not {"at_least", "at_most"} <= settings.keys():
            continue
        defaults: Sequence[dict[str, Any]] = settings.get("defaults") or ({}, {})
        given = settings["at_least"] or {}, settings["at_most"] or {}
        joined = ({**a, **b} for a, b in zip(defaults, given, strict=True))
        yield (
            stage,
            tuple({name: n for name, n in both.items() if n is not None} for both in joined),
        )


def _stages(manifest: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Stages and their settings, in the order in which they work."""
    recipe = manifest.get("recipe", {})
    found, order = recipe.get("stages", {}), recipe.get("order", [])
    names = [*(name for name in order if name in found), *sorted(set(found) - set(order))]
    return [(name, found[name]) for name in names]


def _outcomes(counts: Mapping[str, Any]) -> Iterator[list[str]]:
    for level in sorted(counts, key=lambda name: LEVELS.index(name) if name in LEVELS else 9):
        one = counts[level]
        yield [level, "listed" if level == "videos" else "found", "", f"{one['inputs']:,}"]
        yield [level, "ok", "", f"{one['ok']:,}"]
        for outcome in ("filtered", "failed", "quarantined"):
            for reason, count in one[outcome].items():
                yield [level, outcome, code(reason), f"{count:,}"]
        if one["pending"]:
            yield [level, "pending", "", f"{one['pending']:,}"]


def _making(manifest: Mapping[str, Any]) -> list[str]:
    codec, contents = manifest.get("codec") or {}, manifest["contents"]
    parts = ["## Models", _table(["captions by", "clips"], _few(contents["model"]))]
    parts.append(_table(["prompt", "clips"], _few(contents["prompt"])))
    names = ("id", "revision", "licence", "channels", "stride", "causal", "dtype")
    rows = [[name, code(codec[name])] for name in names if name in codec]
    parts.append(_table(["codec", ""], rows))
    clock = manifest.get("clock") or {}
    if clock:
        parts.append(
            f"{clock['fps']} frames a second, {clock['frames_per_chunk']} to a chunk: a clip of k "
            "chunks is a first frame, which is latent 0, and k latents of a chunk each. Latents "
            "are standardised by the codec's mean and standard deviation per channel, which are "
            "in `manifest.json`."
        )
    fingerprints = manifest.get("fingerprints", {})
    if stages := _stages(manifest):
        rows = [[stage, code(fingerprints.get(stage, "")), code(told)] for stage, told in stages]
        parts += ["## Recipe", _table(["stage", "fingerprint", "settings"], rows)]
    return parts


def _few(found: Mapping[str, int]) -> list[list[str]]:
    ordered = sorted(found.items(), key=lambda one: (-one[1], one[0]))[:SHOWN]
    return [[code(value), f"{count:,}"] for value, count in ordered] or [["none", "0"]]
