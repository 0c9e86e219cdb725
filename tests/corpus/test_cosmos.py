"""`cosmos` as NVIDIA ships it: TorchScript, which is code, and statistics per latent frame."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from corpus.clock import Clock
from corpus.codecs import build, check_fits, from_description, prove
from corpus.codecs.weights import ALLOWED
from corpus.errors import UserError
from corpus.ids import sha256_file


class Encoder(torch.nn.Module):
    """Means of 4x8x8 blocks, the start frame held for four; tells the latent and more."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        held = torch.cat([x[:, :, :1], x[:, :, :1], x[:, :, :1], x], 2)
        means = torch.nn.functional.avg_pool3d(held, [4, 8, 8])
        latent = torch.cat([means, means, means, means, means, means[:, :1]], 1)
        return latent, means


class Decoder(torch.nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        wide = z[:, :3].repeat_interleave(4, 2).repeat_interleave(8, 3).repeat_interleave(8, 4)
        return wide[:, :, 3:]


class Backwards(torch.nn.Module):
    """Looks into the future, whatever it is said to do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held = torch.cat([x[:, :, :1], x[:, :, :1], x[:, :, :1], x], 2)
        means = torch.nn.functional.avg_pool3d(held, [4, 8, 8]).flip(2)
        return torch.cat([means, means, means, means, means, means[:, :1]], 1)


def shipped(folder: Path, encoder: torch.nn.Module | None = None) -> dict[str, Any]:
    """A folder as NVIDIA's, and the settings that pin it."""
    folder.mkdir(exist_ok=True)
    for name, half in (("encoder", encoder or Encoder()), ("decoder", Decoder())):
        torch.jit.script(half).save(str(folder / f"{name}.jit"))
    frames = torch.linspace(0.5, 1.5, 16 * 3)
    torch.save((0.1 * frames, frames), folder / "mean_std.pt")
    pins = {
        f"{half}_sha256": sha256_file(folder / f"{half}.jit") for half in ("encoder", "decoder")
    }
    return {"weights": str(folder), **pins}


def film(chunks: int = 2) -> np.ndarray:
    """Each chunk has a grey level of its own."""
    levels = [0, *(20 * (1 + i // 4) for i in range(4 * chunks))]
    return np.stack([np.full((16, 24, 3), level, np.uint8) for level in levels])


def test_it_runs_if_allowed_and_pinned(tmp_path: Path) -> None:
    made = build("cosmos", allow_torchscript=True, **shipped(tmp_path))
    check_fits(made.info, Clock())
    prove(made)
    latent = made.encode(film())
    assert latent.shape == (16, 3, 2, 3)
    assert np.abs(made.decode(latent).astype(int) - film()).max() <= 1
    mean, std = torch.load(tmp_path / "mean_std.pt", weights_only=True)
    assert made.info.mean == pytest.approx(mean.reshape(16, 3).mean(1).tolist())
    mixed = (std.reshape(16, 3) ** 2).mean(1) + mean.reshape(16, 3).var(1, correction=0)
    assert made.info.std == pytest.approx(mixed.sqrt().tolist())


def test_code_is_not_run_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = shipped(tmp_path)
    with pytest.raises(UserError, match=r"is code: set latents.allow_torchscript"):
        build("cosmos", **settings)
    description = build("cosmos", allow_torchscript=True, **settings).info.to_json()
    description = json.loads(json.dumps(description))
    with pytest.raises(UserError, match="is code"):
        from_description(description, weights=str(tmp_path))
    greedy = {**description["settings"], "allow_torchscript": True}
    with pytest.raises(UserError, match="has no setting allow_torchscript"):
        from_description({**description, "settings": greedy}, str(tmp_path), "cpu", True)
    monkeypatch.setenv(ALLOWED, "1")
    assert from_description(description, weights=str(tmp_path)).info.to_json() == description


def test_other_code_than_was_pinned_is_not_run(tmp_path: Path) -> None:
    settings = shipped(tmp_path)
    with pytest.raises(UserError, match=r"encoder.jit has the SHA-256 .* not the pinned 00"):
        build("cosmos", allow_torchscript=True, **{**settings, "encoder_sha256": "00"})
    with pytest.raises(UserError, match=r"set decoder_sha256 to its SHA-256"):
        build("cosmos", allow_torchscript=True, **{**settings, "decoder_sha256": None})
    made = build("cosmos", allow_torchscript=True, **settings)
    (tmp_path / "decoder.jit").write_bytes(b"other")
    with pytest.raises(UserError, match=r"decoder.jit has the SHA-256"):
        made.open()
    (tmp_path / "decoder.jit").unlink()
    with pytest.raises(UserError, match=r"has no decoder.jit"):
        made.open()


def test_statistics_belong_to_the_revision_and_are_not_unpickled(tmp_path: Path) -> None:
    settings = shipped(tmp_path)
    before = build("cosmos", allow_torchscript=True, **settings).info
    (tmp_path / "mean_std.pt").unlink()
    without = build("cosmos", allow_torchscript=True, **settings).info
    assert without.mean == (0.0,) * 16 and without.revision != before.revision
    torch.save(Encoder(), tmp_path / "mean_std.pt")  # a pickle that would run code
    with pytest.raises(UserError, match=r"mean_std.pt cannot be read"):
        build("cosmos", allow_torchscript=True, **settings)


def test_torchscript_that_is_not_causal_is_found_out(tmp_path: Path) -> None:
    made = build("cosmos", allow_torchscript=True, **shipped(tmp_path, Backwards()))
    with pytest.raises(UserError, match="declared causal, and yet"):
        prove(made)
