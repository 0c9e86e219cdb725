"""The fitted codec: at equal channels no worse than waves, on clips that it has not seen."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_codecs import smooth_film

from corpus.clock import Clock
from corpus.codecs import DctCodec, build, check_fits, from_description, prove, psnr
from corpus.codecs.pca_fit import fit_basis
from corpus.errors import UserError

FILMS = [smooth_film(13, 32, 40, seed=n) for n in range(6)]


@pytest.fixture(scope="module")
def basis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("basis")
    (folder / "basis.safetensors").write_bytes(fit_basis(FILMS, 24))
    return folder


def held_out() -> np.ndarray:
    return smooth_film(13, 32, 40, seed=99)


def test_shape_causality_and_company(basis: Path) -> None:
    made, film = build("pca", weights=str(basis)), held_out()
    check_fits(made.info, Clock())
    prove(made)
    latent = made.encode(film)
    assert latent.shape == (24, 4, 4, 5) and latent.dtype == np.float32
    changed = film.copy()
    changed[5] ^= 255
    after = made.encode(changed)
    assert (latent[:, :2] == after[:, :2]).all() and (latent[:, 2] != after[:, 2]).any()
    both = made.encode_batch(np.stack([film, changed]))
    assert (both == [latent, after]).all()
    assert made.encode(film[:1]).shape == (24, 1, 4, 5)


def test_latents_of_what_it_was_fitted_on_are_standard(basis: Path) -> None:
    made = build("pca", weights=str(basis))
    latents = np.stack([made.encode(film) for film in FILMS])
    for part in (latents[:, :8, :1], latents[:, :8, 1:]):  # both kinds of block, leading channels
        assert np.abs(part.mean((0, 2, 3, 4))).max() < 0.05
        assert part.std((0, 2, 3, 4)) == pytest.approx(np.ones(8), abs=0.05)


def test_all_channels_of_a_start_frame_are_lossless(tmp_path: Path) -> None:
    films = [np.random.default_rng(n).integers(0, 256, (5, 64, 64, 3), np.uint8) for n in range(4)]
    (tmp_path / "b.safetensors").write_bytes(fit_basis(films, 192))
    made = build("pca", weights=str(tmp_path / "b.safetensors"))  # a file will do
    assert (made.decode(made.encode(films[0][:1])) == films[0][:1]).all()


def test_no_worse_than_waves_at_equal_channels(basis: Path) -> None:
    film, made = held_out(), build("pca", weights=str(basis))
    fitted, waves = (psnr(c.decode(c.encode(film)), film) for c in (made, DctCodec(24)))
    assert fitted >= waves


def test_no_worse_than_waves_on_real_films_that_it_has_not_seen(
    public_videos: Path, tmp_path: Path
) -> None:
    films = [real(path) for path in sorted(public_videos.glob("*.mp4"))[:8]]
    (tmp_path / "basis.safetensors").write_bytes(fit_basis(films[::2], 48))
    made, waves = build("pca", weights=str(tmp_path)), DctCodec(48)
    for film in films[1::2]:
        fitted, plain = (psnr(c.decode(c.encode(film)), film) for c in (made, waves))
        assert fitted >= plain, f"{fitted:.2f} dB, waves {plain:.2f} dB"


def real(path: Path) -> np.ndarray:
    """The first 17 pictures of a film, small."""
    with av.open(str(path)) as container:
        pictures = [
            frame.to_ndarray(format="rgb24", width=192, height=112)
            for frame, _ in zip(container.decode(video=0), range(17), strict=False)
        ]
    return np.stack(pictures)


def test_equal_clips_and_seed_give_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpus.codecs.pca_fit.BLOCKS", 10)
    assert fit_basis(FILMS, 12) == fit_basis(iter(FILMS), 12)
    assert fit_basis(FILMS, 12) != fit_basis(FILMS, 12, seed=1)


def test_a_basis_does_not_depend_on_who_adds_up_what_first() -> None:
    """As several threads do in another order every time."""
    assert fit_basis(FILMS, 12) == fit_basis(FILMS[::-1], 12)


def test_the_basis_is_named_by_its_bytes_and_found_again(
    basis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = build("pca", weights=str(basis)).info
    other = tmp_path / "basis.safetensors"
    other.write_bytes((basis / "basis.safetensors").read_bytes())
    assert build("pca", weights=str(tmp_path)).info == info
    assert str(basis) not in str(info.to_json())
    monkeypatch.setenv("TV2TV_CODEC_WEIGHTS", str(tmp_path))
    assert from_description(info.to_json()).info == info
    other.write_bytes(fit_basis(FILMS[:2], 24))
    with pytest.raises(UserError, match="another revision"):
        from_description(info.to_json())


def test_what_is_no_basis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"where are its weights\? Set latents.weights"):
        build("pca")
    with pytest.raises(UserError, match="is no basis"):
        build("pca", weights=str(tmp_path))
    (tmp_path / "basis.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="is no basis"):
        build("pca", weights=str(tmp_path))
    with pytest.raises(ValueError, match="1 to 192"):
        fit_basis(FILMS, 193)
    with pytest.raises(ValueError, match="longer than its start frame"):
        fit_basis([film[:1] for film in FILMS], 3)
    with pytest.raises(UserError, match="codec dct has no weights"):
        build("dct", weights=str(tmp_path))
