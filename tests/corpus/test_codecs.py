from typing import Any

import numpy as np
import pytest

from corpus.codecs import DctCodec, build, from_description, psnr
from corpus.errors import UserError


def smooth_film(frames: int, height: int = 16, width: int = 24, seed: int = 0) -> np.ndarray:
    t, y, x = np.mgrid[0:frames, 0:height, 0:width]
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = [np.sin(x / 6 + y / 9 + t / 8 + p) for p in phase]
    return np.rint(127 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize("chunks", [0, 1, 5])
def test_shape_and_round_trip(chunks: int) -> None:
    film = smooth_film(1 + 4 * chunks)
    codec = DctCodec(96)
    latent = codec.encode(film)
    assert latent.shape == codec.latent_shape(*film.shape[:3]) == (96, 1 + chunks, 2, 3)
    assert latent.dtype == np.float32 and latent.flags.c_contiguous
    assert psnr(codec.decode(latent), film) > 35


def test_all_coefficients_of_a_start_frame_are_lossless() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    codec = DctCodec(192)
    assert (codec.decode(codec.encode(noise)) == noise).all()


def test_causal_changing_frame_five_leaves_latents_zero_and_one() -> None:
    film = smooth_film(13)
    changed = film.copy()
    changed[5] = 255 - changed[5]
    before, after = DctCodec(96).encode(film), DctCodec(96).encode(changed)
    assert (before[:, :2] == after[:, :2]).all()
    assert (before[:, 2] != after[:, 2]).any()
    assert (before[:, 3] == after[:, 3]).all()


def test_latent_i_is_frames_of_chunk_i_alone() -> None:
    """Latent 1 + i decodes to frames 1 + 4i .. 4 + 4i: each chunk carries its own grey level."""
    codec = DctCodec(96)
    film = np.stack([np.full((8, 8, 3), 10 * ((i + 3) // 4), np.uint8) for i in range(1 + 4 * 6)])
    assert (codec.decode(codec.encode(film)) == film).all()


@pytest.mark.parametrize(
    ("film", "says"),
    [
        (np.zeros((3, 8, 8, 3), np.uint8), "1 \\+ 4k"),
        (np.zeros((5, 12, 8, 3), np.uint8), "multiple of 8x8"),
        (np.zeros((5, 8, 8, 3), np.float32), "uint8"),
        (np.zeros((5, 8, 8), np.uint8), "uint8"),
    ],
)
def test_misfits_are_refused(film: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DctCodec(96).encode(film)


def test_build_names_the_choices_and_bad_settings() -> None:
    with pytest.raises(UserError, match="choose one of cosmos, dct"):
        build("vae")
    with pytest.raises(UserError, match="multiple of 3"):
        build("dct", channels=97)
    with pytest.raises(UserError, match="codec dct"):
        build("dct", chanels=96)


def test_a_description_with_an_odd_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"codec \['dct'\] is unknown: choose one of"):
        from_description({**build("dct").info.to_json(), "id": ["dct"]})


@pytest.mark.parametrize("channels", ["48", "abc", 48.0, True, 0, -3])
def test_a_setting_of_another_kind_is_named(channels: Any) -> None:
    with pytest.raises(UserError, match=r"codec dct: channels=\S+ must be a whole number above 0"):
        build("dct", channels=channels)


def test_description_round_trips_and_a_changed_one_is_refused() -> None:
    description = DctCodec(48).info.to_json()
    assert from_description(description).info == DctCodec(48).info
    with pytest.raises(UserError, match="another std"):
        from_description({**description, "std": [1.0] * 48})
    with pytest.raises(UserError, match="another revision"):
        from_description({**description, "revision": "0"})
