"""samples.parquet: one row per sample, enough to plan and tokenise without opening a tar.

Row group i is shard i, in the order of its samples.
"""

from typing import Any

import pyarrow as pa

from corpus.captions import Caption, ClipCaptions, SegmentCaption, Segments
from corpus.shards.sample import MEMBERS

_CAPTION = [
    pa.field("text", pa.string()),
    pa.field("verdict", pa.string()),
    pa.field("scores", pa.map_(pa.string(), pa.float64())),
    pa.field("corruption", pa.string()),
]
_SEGMENT = [pa.field("a", pa.int32()), pa.field("b", pa.int32()), *_CAPTION]
_LADDER = [pa.field("every", pa.string()), pa.field("spans", pa.list_(pa.struct(_SEGMENT)))]
_MEMBER = [
    pa.field("name", pa.string()),
    pa.field("offset", pa.int64()),
    pa.field("size", pa.int64()),
    pa.field("sha256", pa.string()),
]

SAMPLES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("chunks", pa.int32(), nullable=False),
        pa.field("latent_shape", pa.list_(pa.int32()), nullable=False),
        pa.field("latent_dtype", pa.string(), nullable=False),
        pa.field("members", pa.list_(pa.struct(_MEMBER)), nullable=False),
        pa.field("meta", pa.list_(pa.struct(_CAPTION)), nullable=False),
        pa.field("segments", pa.list_(pa.struct(_SEGMENT)), nullable=False),
        pa.field("ladders", pa.list_(pa.struct(_LADDER)), nullable=False),
    ]
)


def captions_to_row(captions: ClipCaptions) -> dict[str, Any]:
    """The columns ``meta``, ``segments`` and ``ladders``."""
    ladders = captions.ladders.items()
    return {
        "meta": [_caption(caption) for caption in captions.meta],
        "segments": _spans(captions.segments),
        "ladders": [{"every": every, "spans": _spans(spans)} for every, spans in ladders],
    }


def captions_from_row(row: dict[str, Any]) -> ClipCaptions:
    """Inverse of `captions_to_row`: texts, scores and verdicts; the rest stays in the tar."""
    return ClipCaptions(
        tuple(_parse(item) for item in row["meta"]),
        _parse_spans(row["segments"]),
        {ladder["every"]: _parse_spans(ladder["spans"]) for ladder in row["ladders"]},
    )


def members_from_row(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Member name to its offset, size and sha256; ValueError unless all are there."""
    members = {item["name"]: item for item in row["members"]}
    if set(MEMBERS) - set(members):
        raise ValueError(f"sample {row['key']} lacks {sorted(set(MEMBERS) - set(members))}")
    return members


def _spans(spans: Segments) -> list[dict[str, Any]]:
    return [{"a": span.a, "b": span.b, **_caption(span.caption)} for span in spans]


def _parse_spans(items: list[dict[str, Any]]) -> Segments:
    return tuple(SegmentCaption(item["a"], item["b"], _parse(item)) for item in items)


def _caption(caption: Caption) -> dict[str, Any]:
    return {
        "text": caption.text,
        "verdict": caption.verdict,
        "scores": sorted(caption.scores.items()),
        "corruption": caption.corruption,
    }


def _parse(item: dict[str, Any]) -> Caption:
    text, scores, verdict = item["text"], dict(item["scores"]), item["verdict"]
    return Caption(text, scores, verdict, corruption=item["corruption"])
