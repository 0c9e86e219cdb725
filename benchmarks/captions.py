"""Output tokens per second of the captions stage, against the bare engine on the same questions.

``python -m benchmarks captions [MODEL [REVISION]] [CLIPS]`` makes clips of a moving square, has the
captions stage ask the `vllm` backend about them, and then gives the very same questions to
``LLM.generate`` of the same engine, all at once, with the same batch size. Every answer has exactly
`TOKENS` tokens on both sides, none is held to a grammar or cut short, and caches are emptied in
between. Rates are by the clock and, on a CPU, also by processor time, which a busy machine does not
change. Both sides start from pictures in memory; the stage also decodes the clips. Without a MODEL
it is the tests' tiny model with random weights, on a CPU: that compares overheads, and no GPU's
speed can be read from it.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from corpus.clock import Clock
from corpus.ids import segment_id, sha256_file
from corpus.layout import Media
from corpus.video import write_video
from stages.captioning.backend import CaptionAnswer, CaptionRequest
from stages.captioning.engine import EngineBackend
from stages.captioning.engine_config import ENVIRONMENT, ON_CPU, EngineConfig, arguments, on_cpu
from stages.captioning.engine_input import chat, media
from stages.captioning.settings import CaptionsConfig
from stages.captioning.worded import Decoding, pieces
from stages.captions import CaptionsStage
from stages.stage import Context, Record

TOKENS = 64
ROUNDS = 3
CLIP_CHUNKS, EDGES = 32, range(0, 33, 8)  # 8 s in segments of 2 s
SIZE = (112, 168)
Rates = tuple[float, float]  # tokens per second by the clock, and of the processor


class Forced(EngineBackend):
    """Answers of one length, of which nothing is thrown away; remembers what it was asked."""

    def __init__(self, config: EngineConfig) -> None:
        super().__init__(config)
        self.again = None
        self.asked: list[CaptionRequest] = []
        self.steps: list[int] = []

    def open(self) -> None:
        from transformers import AutoProcessor
        from vllm import LLM

        settings = arguments(self.config, str(self.weights.folder()))
        self.bare = LLM(**settings)
        self._engine = self.bare.llm_engine
        self._template = AutoProcessor.from_pretrained(settings["model"])

    def submit(self, requests: Sequence[CaptionRequest]) -> None:
        self.asked += requests
        super().submit(requests)

    def collect(self) -> list[CaptionAnswer]:
        """As captions, whatever was said: the rules must not change what is asked next."""
        found = super().collect()
        self.steps.append(len(self._growing))
        return [CaptionAnswer(one.id, "ok", "A square moves.", "", one.detail) for one in found]

    def _written(self, request: CaptionRequest) -> Any:
        params = super()._written(request)
        params.structured_outputs = None
        params.min_tokens, params.max_tokens, params.ignore_eos = TOKENS, TOKENS, True
        return params

    def _cut(self, text: str, seconds: float) -> None:
        return None

    def forget(self) -> None:
        """Empty every cache, as before the first question."""
        self._engine.reset_prefix_cache()
        self._engine.reset_mm_cache()
        self._engine.reset_encoder_cache()


def clips(folder: Path, count: int) -> list[Record]:
    """Clips of a square that crosses noise, with segments of 2 s."""
    store, found = Media(folder), []
    for number in range(count):
        name, generator = f"{number:032x}", np.random.default_rng(number)
        still = generator.integers(0, 120, (1, *SIZE, 3), dtype=np.uint8)
        frames = np.repeat(still, 1 + 4 * CLIP_CHUNKS, axis=0)
        for at, frame in enumerate(frames):
            frame[40:60, at : at + 20] = (250, 240, 30)
        path = store.path(store.clip(name))
        write_video(path, frames, 16)
        segments = [
            {"segment_id": segment_id(name, a, b), "a": a, "b": b} for a, b in pairwise(EDGES)
        ]
        found.append(
            {
                "clip_id": name,
                "clip": store.clip(name),
                "clip_sha256": sha256_file(path),
                "chunks": CLIP_CHUNKS,
                "segments": segments,
            }
        )
    return found


class Watch:
    """Seconds by the clock and of the processor since it was made."""

    def __init__(self) -> None:
        self._start = np.array([time.perf_counter(), time.process_time()])

    def rates(self, tokens: int) -> Rates:
        passed = np.array([time.perf_counter(), time.process_time()]) - self._start
        return tokens / passed[0], tokens / passed[1]


def stage_rates(stage: CaptionsStage, records: Sequence[Record]) -> tuple[Rates, dict[str, Any]]:
    """Tokens per second of `process` on all records, and what the stage tells of itself."""
    stage.told()
    watch = Watch()
    stage.process(records)
    told = stage.told()
    return watch.rates(told["tokens_out"]), told


def bare_rates(backend: Forced, requests: Sequence[CaptionRequest]) -> Rates:
    """Tokens per second of ``LLM.generate`` on the same questions, pictures included."""
    kind = str(backend._engine.vllm_config.model_config.hf_config.model_type)
    tokenizer = backend._engine.get_tokenizer()
    params = [backend._written(request) for request in requests]
    for one in params:
        one.output_kind, one.stream_interval = type(one.output_kind).FINAL_ONLY, None
    watch = Watch()
    prompts = []
    for request in requests:
        shown = pieces(request, backend.config.show)
        tokens = tokenizer.encode(chat(backend._template, shown), add_special_tokens=False)
        prompts.append({"prompt_token_ids": tokens, **media(shown, kind)})
    outputs = backend.bare.generate(prompts, params, use_tqdm=False)
    found = watch.rates(len(outputs) * TOKENS)
    counts = {len(output.outputs[0].token_ids) for output in outputs}
    if counts != {TOKENS}:
        raise RuntimeError(f"answers of {counts} tokens where {TOKENS} were forced")
    return found


def measure(config: EngineConfig, count: int) -> None:
    backend = Forced(config)
    for name, value in {**ENVIRONMENT, **(ON_CPU if on_cpu(config) else {})}.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = clips(folder, count)
        context = Context(Media(folder), Clock())
        backend.open()
        where = "CPU; says nothing about a GPU" if on_cpu(config) else "GPU"
        say(f"{backend.model}: {count} clips, {TOKENS} tokens per answer, {where}")
        for chain in (False, True):
            settings = CaptionsConfig(chain=chain, canaries=0)
            stage = CaptionsStage(settings, context, backend=backend)
            rates: list[tuple[Rates, Rates]] = []
            for turn in range(ROUNDS + 1):
                backend.asked, backend.steps = [], []
                backend.forget()
                rate, told = stage_rates(stage, records)
                backend.forget()
                bare = bare_rates(backend, backend.asked)
                if turn:  # the first warms up
                    rates.append((rate, bare))
            report("chained" if chain else "independent", rates, told, on_cpu(config))
        backend.close()


def report(
    kind: str, rates: Sequence[tuple[Rates, Rates]], told: dict[str, Any], processor: bool
) -> None:
    say(
        f"{kind}: {told['questions']} questions; batch {told['full'] / told['seconds']:.0%} full, "
        f"starved by decoding {told['starved'] / told['seconds']:.0%}, ending "
        f"{told['ending'] / told['seconds']:.0%}"
    )
    for index, name in enumerate(("clock", "processor") if processor else ("clock",)):
        pairs = [(stage[index], bare[index]) for stage, bare in rates]
        stage, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
        spread = ", ".join(f"{one / other:.2f}" for one, other in pairs)
        ratio = statistics.median(one / other for one, other in pairs)
        say(
            f"  tokens per second by the {name}: stage {stage:.0f}, bare engine {bare:.0f}, "
            f"ratio {ratio:.2f} ({spread})"
        )


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main(arguments: list[str]) -> None:
    """Args: a model's folder, or its id and commit; and the number of clips."""
    names = [one for one in arguments if not one.isdigit()]
    count = int(next((one for one in arguments if one.isdigit()), 48))
    if names:
        revision = names[1] if len(names) > 1 else None
        decoding = Decoding(temperature=1.0, max_tokens=TOKENS)
        measure(EngineConfig(model=names[0], revision=revision, decoding=decoding), count)
        return
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "stages"))
    from tiny_vlm import build

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    with tempfile.TemporaryDirectory() as name:
        tiny = EngineConfig(
            model=str(build(Path(name) / "tiny")),
            dtype="float32",
            max_model_len=2048,
            max_seqs=16,
            eager=True,
            decoding=Decoding(temperature=1.0, max_tokens=TOKENS),
        )
        measure(tiny, count)
