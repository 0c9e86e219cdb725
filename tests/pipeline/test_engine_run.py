"""A whole run whose captions come from a vLLM engine in a Ray worker, on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from corpus.video import write_video

sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))
from tiny_engine import needs_vllm
from tiny_vlm import build

pytestmark = [pytest.mark.slow, needs_vllm]
CAPTIONS = ("A square slides over the floor.", "The light changes.", "Dust whirls around.")
PROMPT = """---
id: three
version: "1"
purpose: a model of random weights can say nothing else
output:
  type: object
  properties:
    caption: {{type: string, enum: {captions}}}
  required: [caption]
  additionalProperties: false
must_not: [say anything else]
---
# clip
What is there in {{duration}} s?
# first
What is there from {{start}} s to {{end}} s?
# next
After "{{previous}}": what is there from {{start}} s to {{end}} s?
# unchained
What is there from {{start}} s to {{end}} s?
"""


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films in which a square crosses a noisy room."""
    folder = tmp_path_factory.mktemp("footage")
    for seed in range(2):
        generator = np.random.default_rng(seed)
        frames = np.repeat(generator.integers(0, 120, (1, 96, 128, 3), dtype=np.uint8), 49, axis=0)
        for number, frame in enumerate(frames):
            frame[40:60, 2 * number : 2 * number + 20] = (250, 240, 30)
        write_video(folder / f"{seed}.mp4", frames, 16)
    return folder


def test_captions_of_an_engine_in_a_run(footage: Path, tmp_path: Path) -> None:
    model, prompt, corpus = build(tmp_path / "tiny"), tmp_path / "three.md", tmp_path / "corpus"
    prompt.write_text(PROMPT.format(captions=json.dumps(CAPTIONS)))
    settings = {
        "captions.backend": "vllm",
        "captions.prompt": prompt,
        "captions.vllm.model": model,
        "captions.vllm.dtype": "float32",
        "captions.vllm.eager": "true",
        "captions.vllm.max_model_len": 1024,
        "captions.vllm.max_seqs": 8,
        "captions.vllm.cpus": 1,
        "segments.seconds": 1,
    }
    command = ["run", "films", "--input", str(footage), "--corpus", str(corpus)]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *command],
        capture_output=True,
        text=True,
        env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stderr == ""
    assert "shards:" in done.stdout
    assert "vllm" not in done.stdout.lower().replace(str(tmp_path).lower(), "")
    assert len(done.stdout.splitlines()) < 60

    parts = list((corpus / "tables" / "captions").rglob("*.parquet"))
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert len(rows) >= 6 and {row["outcome"] for row in rows} == {"ok"}
    assert {row["text"] for row in rows} <= set(CAPTIONS)
    assert all(row["model"].startswith("tiny@") and len(row["model"]) == 37 for row in rows)
    assert all(row["tokens_out"] > 5 and row["tokens_in"] > 30 for row in rows)
    assert any(row["previous"] for row in rows)

    again = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *command], capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    after = list((corpus / "tables" / "captions").rglob("*.parquet"))
    assert sorted(after) == sorted(parts)
