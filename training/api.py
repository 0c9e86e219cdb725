"""What the command line and the demo call: train, generate, evaluate."""

from collections.abc import Sequence
from pathlib import Path

import torch

from corpus.codecs import from_description
from corpus.errors import UserError
from corpus.files import is_temporary, sweep
from corpus.shards import Entry, ShardSet
from training import checkpoint
from training.config import RunConfig
from training.evaluate import INSTRUCTIONS, Obedience, measure
from training.film import film_of, write
from training.loader import Loader, Recipe
from training.metrics import MetricsLog, tell
from training.model import TV2TV
from training.optimise import State, averaged, fresh
from training.presets import model_config
from training.rows import Budget
from training.run_folder import (
    Head,
    Run,
    RunFolder,
    StartFrame,
    begin,
    choose_start_frames,
    load_run,
    make_head,
    read_config,
    read_head,
    read_start_frames,
)
from training.samples import Samples
from training.tokenizer import Tokenizer, train_tokenizer
from training.train import fit

__all__ = ["INSTRUCTIONS", "Obedience", "can_resume", "evaluate", "generate", "train"]
SAMPLE_CHUNKS = 16  # of a sample film


def train(config: RunConfig, shards: Path, out: Path, *, resume: bool = False) -> Path:
    """Train a model on shards into a run folder (`training.run_folder`).

    Args:
        resume: go on where the run in ``out`` stopped; an empty folder begins one. Its config may
            differ in ``runtime`` and ``sampling``, and the new one is stored.

    Returns:
        The run folder.

    Raises:
        UserError: wrong config or shards, or a folder that holds something else.
        SystemExit: 128 + signal; a checkpoint was saved.
    """
    config.set_threads()
    folder, data = RunFolder(out), ShardSet.open(shards)
    begun = folder.begun
    if begun:
        _check_same_run(folder, config, data, resume)
        tokenizer = Tokenizer.load(folder.tokenizer, read_head(folder).tokenizer)
    else:
        _check_empty(folder)
        learned = [entry for entry in data.entries if entry.split == "train"]
        tokenizer = train_tokenizer(_texts(learned), config.tokenizer.size)
    samples = Samples(data, "train", config, tokenizer)
    head = read_head(folder) if begun else make_head(data, samples, tokenizer)
    as_stored = begun and read_config(folder) == config
    frames = read_start_frames(folder) if as_stored else choose_start_frames(data, head, config)
    _check_samples(config, frames)

    torch.manual_seed(config.seed)
    state = fresh(_new_model(config, head, tokenizer), config.optimizer)
    _check_shapes(head, state.model.config.factor)
    loader = _loader(config, data, samples, state.model)
    loader.plan(state.position.epoch)
    lengths = loader.index.fingerprint
    place = checkpoint.latest(folder.checkpoints)
    if place is not None:
        changed = checkpoint.restore(place, state, lengths)
        if changed:
            tell(f"resumed with {', '.join(changed)}: what follows is the same up to rounding only")
    # What can be wrong with config and shards has shown by now, before anything is written.
    sweep(out)
    if not as_stored:
        begin(folder, config, head, tokenizer, frames)
    if samples.left_out.cut_chunks:
        tell(str(samples.left_out))
    log = MetricsLog(folder.metrics, state.step)

    def so_far(now: State) -> Run:
        codec, model = from_description(head.codec), averaged(now)
        return Run(out, config, head, tokenizer, codec, model, now.step, frames)

    try:
        fit(
            state,
            loader,
            config,
            log,
            save=lambda now: checkpoint.save(folder.checkpoints, now, lengths, config.runtime.keep),
            film=lambda now: _sample_film(so_far(now)),
        )
    finally:
        log.close()
    return out


def can_resume(config: RunConfig, shards: Path, out: Path) -> bool:
    """Whether ``out`` holds a run that `train` would go on with, given this config and shards."""
    folder = RunFolder(out)
    return folder.begun and not _differences(folder, config, ShardSet.open(shards))


def generate(
    run: Path,
    prompt: str,
    image: Path | None,
    say: list[tuple[float, str]],
    seconds: float,
    out: Path,
    *,
    seed: int = 0,
    guidance: float | None = None,
    steps: int | None = None,
) -> dict[str, Path]:
    """Generate a film and write it with its words.

    Args:
        prompt: meta-caption; "" without an image takes the start frame's own.
        image: start frame; by default the stored one nearest to the prompt.
        say: (seconds, words): words put in there, at the boundary of chunks at or before it.
        seconds: length of the film, a whole number of chunks.
        out: the mp4.
        guidance, steps: by default what the run's config says.

    Returns:
        Paths of "film", "transcript", "subtitles" and "strip".
    """
    loaded = _open(run)
    made = film_of(loaded, prompt, image, say, seconds, seed, guidance, steps)
    return write(loaded, made, out)


def evaluate(
    run: Path,
    shards: Path,
    *,
    instructions: int = INSTRUCTIONS,
    seed: int = 0,
    guidance: float | None = None,
    steps: int | None = None,
    out: Path | None = None,
) -> Obedience:
    """Count how often an instruction in the middle of a real arena film is obeyed.

    Args:
        shards: those that the run was trained on, of the arena.
        instructions: how many; on held-out episodes, four each.
        out: JSON file to write.
    """
    return measure(
        _open(run),
        ShardSet.open(shards),
        instructions=instructions,
        seed=seed,
        guidance=guidance,
        steps=steps,
        out=out,
    )


def _open(root: Path) -> Run:
    """A run, and the threads that it asks for."""
    run = load_run(root)
    run.config.set_threads()
    return run


def _check_same_run(folder: RunFolder, config: RunConfig, data: ShardSet, resume: bool) -> None:
    if not resume:
        raise UserError(f"{folder.root} holds a run already: add --resume, or choose another --out")
    different = _differences(folder, config, data)
    if different:
        raise UserError(
            f"{folder.root} was begun with {different}: resume with its own config and shards, or "
            "choose another --out"
        )


def _differences(folder: RunFolder, config: RunConfig, data: ShardSet) -> str:
    """What keeps a run from going on with this config on these shards; "" if nothing does."""
    other = read_config(folder).differences(config)
    if other:
        return f"another {', '.join(other)}"
    if read_head(folder).shards["index"] != data.manifest["index"]["sha256"]:
        return f"other shards than {data.folder}"
    return ""


def _check_empty(folder: RunFolder) -> None:
    """A folder may hold nothing but the beginning of a run that was cut off."""
    standing = next(path for path in (folder.root, *folder.root.parents) if path.exists())
    if not standing.is_dir():
        raise UserError(f"{standing} is a file, no folder: choose another --out")
    ours = {folder.config.name, folder.tokenizer.name, folder.start_frames.name}
    if folder.root.exists():
        found = sorted(path.name for path in folder.root.iterdir() if path.name not in ours)
        others = [name for name in found if not is_temporary(name)]
        if others:
            raise UserError(f"{folder.root} holds {others[0]} and no run: choose another --out")


def _check_samples(config: RunConfig, frames: Sequence[StartFrame]) -> None:
    if config.runtime.sample_every and not frames:
        raise UserError(
            f"runtime.sample_every={config.runtime.sample_every}, but there is no start frame to "
            "make a film from: set it to 0, or sampling.start_frames to at least 1"
        )


def _check_shapes(head: Head, factor: int) -> None:
    for _, height, width in head.shapes:
        if height % factor or width % factor:
            raise UserError(
                f"model.change.factor={factor} does not divide latents of {height} x {width}: "
                "choose another factor, or other clip buckets"
            )


def _texts(entries: Sequence[Entry]) -> list[str]:
    """All captions of some samples."""
    return [
        caption.text
        for entry in entries
        for caption in (*entry.captions.meta, *(s.caption for s in entry.captions.segments))
    ]


def _new_model(config: RunConfig, head: Head, tokenizer: Tokenizer) -> TV2TV:
    """An untrained model, made on the CPU so that its weights follow from the seed alone."""
    choice = model_config(
        config.model.preset,
        vocab=tokenizer.size,
        channels=head.codec["channels"],
        specials=tokenizer.specials,
        **config.model.change,
    )
    return TV2TV(choice).to(_device(config))


def _device(config: RunConfig) -> str:
    if config.runtime.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if config.runtime.device == "cuda" and not torch.cuda.is_available():
        raise UserError("runtime.device=cuda, but torch sees no CUDA device: use cpu or auto")
    return config.runtime.device


def _loader(config: RunConfig, data: ShardSet, samples: Samples, model: TV2TV) -> Loader:
    recipe = Recipe(
        shards=data,
        sequence=config.sequence,
        specials=model.config.specials,
        budget=Budget(**config.rows.slots),
        factor=model.config.factor,
        seed=config.seed,
    )
    return Loader(samples, recipe, config.rows, workers=config.runtime.workers)


def _sample_film(run: Run) -> None:
    """A film from the first start frame, by the run as it is."""
    seconds = SAMPLE_CHUNKS * run.clock.chunk_seconds
    made = film_of(run, "", None, [], seconds, run.config.seed, None, None)
    write(run, made, RunFolder(run.root).samples / f"step-{run.step:08d}.mp4")
