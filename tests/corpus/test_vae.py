"""Codecs that are video VAEs of diffusers: what they say of themselves, and what they do."""

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent))
from vaes import noise, saved, vae

from corpus.clock import Clock
from corpus.codecs import build, check_fits, described, from_description, prove
from corpus.codecs.vae import WEIGHTS
from corpus.codecs.weights import ENVIRONMENT
from corpus.errors import UserError

NAMES = {"wan": "wan", "wan 2.2": "wan", "cosmos": "cosmos", "cosmos of 8": "cosmos"}
CAUSAL = ("wan", "wan 2.2", "cosmos")
Weights = Callable[[str], Path]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = saved(tmp_path_factory.mktemp("vae"), kind)
        return made[kind]

    return of


def codec(weights: Weights, kind: str, **settings: Any) -> Any:
    return build(NAMES.get(kind, "diffusers"), weights=str(weights(kind)), **settings)


def copy(folder: Path, to: Path) -> Path:
    to.mkdir(parents=True)
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


@pytest.mark.parametrize("kind", CAUSAL)
@pytest.mark.parametrize("chunks", [0, 2])
def test_shape_and_round_trip(weights: Weights, kind: str, chunks: int) -> None:
    made, film = codec(weights, kind), noise(1 + 4 * chunks, 64, 96)
    latent = made.encode(film)
    channels, (_, down, right) = made.info.channels, made.info.stride
    assert latent.shape == (channels, 1 + chunks, 64 // down, 96 // right)
    assert latent.dtype == np.float32 and latent.flags.c_contiguous
    assert made.decode(latent).shape == film.shape


@pytest.mark.parametrize("kind", CAUSAL)
def test_causal_changing_frame_five_leaves_latents_zero_and_one(
    weights: Weights, kind: str
) -> None:
    film, made = noise(13), codec(weights, kind)
    changed = film.copy()
    changed[5] ^= 255
    before, after = made.encode(film), made.encode(changed)
    assert (before[:, :2] == after[:, :2]).all()
    assert (before[:, 2] != after[:, 2]).any()
    prove(made)
    check_fits(made.info, Clock())


@pytest.mark.parametrize("kind", ["cogvideox", "hunyuan"])
def test_what_is_not_causal_is_refused_and_a_lie_about_it_found_out(
    weights: Weights, kind: str
) -> None:
    honest = codec(weights, kind)
    prove(honest)  # it is what it says
    with pytest.raises(UserError, match=r"codec diffusers: not causal.*choose a causal codec"):
        check_fits(honest.info, Clock())
    lying = codec(weights, kind, causal=True)
    check_fits(lying.info, Clock())
    with pytest.raises(UserError, match="declared causal, and yet changing frames 5 to 8 changes"):
        prove(lying)


@pytest.mark.parametrize("kind", ["ltx", "cosmos of 8"])
def test_another_stride_than_the_clock_s_is_refused(weights: Weights, kind: str) -> None:
    made = codec(weights, kind)
    with pytest.raises(UserError, match=r"latent of 8 frames, the clock's chunk has 4"):
        check_fits(made.info, Clock())
    check_fits(made.info, Clock(frames_per_chunk=8))
    prove(made)


def test_a_declared_stride_that_is_none_of_the_model_s_is_found_out(weights: Weights) -> None:
    with pytest.raises(UserError, match=r"promised .* not what they are said to be"):
        prove(codec(weights, "ltx", stride=[4, 32, 32]))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tile": "abc"}, "tile='abc' must be a whole number above 0"),
        ({"tile": -32}, "tile=-32 must be a whole number above 0"),
        ({"channels": 0}, "channels=0 must be a whole number above 0"),
        ({"stride": 8}, r"stride=8 must be \[frames, rows, columns\]"),
        ({"stride": [4, 8, 0]}, "stride=0 must be a whole number above 0"),
        ({"causal": "no"}, "causal='no' must be true or false"),
    ],
)
def test_settings_of_another_kind_are_named_before_anything_runs(
    weights: Weights, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=f"codec diffusers: {says}"):
        codec(weights, "ltx", **settings)


def test_latents_are_the_mode_standardised_with_what_is_recorded(weights: Weights) -> None:
    """And `decode` gives the VAE exactly what standardising is the inverse of."""
    made, film = codec(weights, "wan"), noise()
    config = json.loads((weights("wan") / "config.json").read_text())
    assert made.info.mean == tuple(config["latents_mean"])
    assert made.info.std == tuple(config["latents_std"])
    pixels = torch.from_numpy(film).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    shape = (-1, 1, 1, 1)
    mean, std = (np.float32(config[f"latents_{n}"]).reshape(shape) for n in ("mean", "std"))
    with torch.inference_mode():
        mode = vae("wan").encode(pixels).latent_dist.mode()[0].numpy()
        latent = made.encode(film)
        assert (latent == (mode - mean) / std).all()
        shown = vae("wan").decode(torch.from_numpy(latent * std + mean)[None]).sample[0]
    frames = ((shown.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 3, 0).numpy()
    assert (made.decode(latent) == frames).all()


def test_a_scaling_factor_is_a_deviation_and_a_shift_a_mean(
    weights: Weights, tmp_path: Path
) -> None:
    folder = copy(weights("cogvideox"), tmp_path / "v")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "scaling_factor": 0.5, "shift_factor": 0.25})
    )
    info = build("diffusers", weights=str(folder)).info
    assert info.mean == (0.25,) * 16 and info.std == (2.0,) * 16


def test_statistics_per_latent_frame_become_one_per_channel(weights: Weights) -> None:
    """A mixture of frames with a mean and a deviation each: its own mean and deviation."""
    config = json.loads((weights("cosmos") / "config.json").read_text())
    mean, std = (np.reshape(config[f"latents_{n}"], (16, -1)) for n in ("mean", "std"))
    info = codec(weights, "cosmos").info
    assert mean.shape[1] > 1
    assert info.mean == pytest.approx(mean.mean(1))
    assert info.std == pytest.approx(np.sqrt((std**2).mean(1) + mean.var(1)))


@pytest.mark.parametrize("kind", ["wan", "cosmos"])
def test_a_clip_s_latent_does_not_depend_on_its_company(weights: Weights, kind: str) -> None:
    made, films = codec(weights, kind), [noise(seed=n) for n in range(3)]
    together = made.encode_batch(np.stack(films))
    for film, latent in zip(films, together, strict=True):
        assert (made.encode(film) == latent).all()


def test_another_process_gives_the_same_bytes(weights: Weights) -> None:
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); import torch, vaes\n"
        "from corpus.codecs import build\n"
        "torch.set_num_threads(2)\n"
        "for dtype in sys.argv[3:]:\n"
        "    made = build('wan', weights=sys.argv[2], dtype=dtype)\n"
        "    print(hashlib.sha256(made.encode(vaes.noise()).tobytes()).hexdigest())"
    )
    dtypes = ("float32", "bfloat16")
    arguments = [str(Path(__file__).parent), str(weights("wan")), *dtypes]
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    made = [codec(weights, "wan", dtype=dtype) for dtype in dtypes]
    assert [one.info.dtype for one in made] == list(dtypes)
    here = [hashlib.sha256(one.encode(noise()).tobytes()).hexdigest() for one in made]
    assert run.stdout.split() == here and here[0] != here[1]


def test_encoding_takes_one_thread_and_leaves_the_others_to_whoever_had_them(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VAE of full size rounds otherwise on two threads (docs/decisions.md); tiny ones do not."""
    made, met = codec(weights, "wan"), list[int]()
    made.open()
    encode = made._model.encode
    monkeypatch.setattr(
        made._model, "encode", lambda x: (met.append(torch.get_num_threads()), encode(x))[1]
    )
    torch.set_num_threads(2)
    try:
        made.encode(noise(5))
        assert met == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_what_a_codec_is_is_known_without_torch_and_its_weights(weights: Weights) -> None:
    code = (
        "import sys\nfrom corpus.codecs import build\n"
        "made = build('wan', weights=sys.argv[1])\n"
        "assert made.info.channels == 16 and made.libraries()['diffusers']\n"
        "assert not {'torch', 'diffusers'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code, str(weights("wan"))], check=True)
    made = codec(weights, "wan")
    made.open()
    assert len(pickle.dumps(made)) < 10_000, "the model stays in its process"


def test_the_same_bytes_have_one_name_from_a_folder_and_from_the_hub_s_cache(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, commit = tmp_path / "hub", "a" * 40
    place = cache / "models--some--vae"
    copy(weights("wan"), place / "snapshots" / commit / "vae")  # as pipelines keep it
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    ours = codec(weights, "wan").info
    for name in ("some/vae", f"some/vae@{commit}"):
        assert build("wan", weights=name).info == ours
    assert str(tmp_path) not in json.dumps(ours.to_json()) and "some" not in str(ours.settings)
    with pytest.raises(UserError, match=r"not on this machine.*hf download other/vae"):
        build("wan", weights="other/vae")
    with pytest.raises(UserError, match=r"Wan-AI/Wan2.1.*is not on this machine"):
        build("wan")


def test_a_description_finds_its_weights_or_says_what_is_missing(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = codec(weights, "wan", dtype="float32", tile=64).info
    description = json.loads(json.dumps(info.to_json()))
    assert described(description) == info, "who only reads latents needs no weights"
    monkeypatch.setenv(ENVIRONMENT, str(weights("wan")))
    assert from_description(description).info == info
    with pytest.raises(UserError, match=rf"another revision; name the weights.*{ENVIRONMENT}"):
        from_description({**description, "revision": "1-0123456789abcdef"})
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "gone"))
    with pytest.raises(UserError, match=rf"no folder or file .*gone.*{ENVIRONMENT}"):
        from_description(description)
    with pytest.raises(UserError, match="codec wan: has no setting weights"):
        from_description({**description, "settings": {"weights": "/etc"}})
    with pytest.raises(UserError, match="describes no codec"):
        described({"id": "wan"})


def test_a_relative_place_is_that_of_who_named_it(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker opens what the command built, in another folder and environment."""
    monkeypatch.chdir(weights("cosmos").parent)
    made = build("cosmos", weights=weights("cosmos").name)
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(made)).open()  # noqa: S301 - our own


def test_a_folder_that_is_not_on_this_machine_gives_way_to_the_environment(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a corpus is looked at on another machine than the one that made it."""
    there, gone = str(weights("wan")), str(tmp_path / "gone")
    with pytest.raises(UserError, match=rf"no folder or file .*gone.*{ENVIRONMENT}"):
        build("wan", weights=gone)
    monkeypatch.setenv(ENVIRONMENT, there)
    assert build("wan", weights=gone).info == codec(weights, "wan").info
    with pytest.raises(UserError, match=r"AutoencoderKLCosmos, not of AutoencoderKLWan"):
        build("wan", weights=str(weights("cosmos")))


def test_weights_that_are_not_those_of_the_config_are_refused(
    weights: Weights, tmp_path: Path
) -> None:
    """diffusers would go on with random numbers in their place."""
    folder = copy(weights("wan"), tmp_path / "v")
    tensors = load_file(folder / WEIGHTS)
    tensors.pop("encoder.conv_in.weight")
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(UserError, match=r"not those of its config: 1 tensors.*encoder.conv_in"):
        build("wan", weights=str(folder)).open()


def test_weights_that_change_during_a_run_are_noticed(weights: Weights, tmp_path: Path) -> None:
    folder = copy(weights("wan"), tmp_path / "v")
    made = build("wan", weights=str(folder))
    tensors = load_file(folder / WEIGHTS)
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(UserError, match="not those of revision"):
        made.open()


def test_a_weight_that_is_no_number_is_found_before_the_first_clip(
    weights: Weights, tmp_path: Path
) -> None:
    folder = copy(weights("wan"), tmp_path / "v")
    tensors = load_file(folder / WEIGHTS)
    tensors["encoder.conv_in.bias"][0] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    made = build("wan", weights=str(folder))
    with pytest.raises(ValueError, match="not finite"):
        made.encode(noise())
    with pytest.raises(UserError, match="not finite"):
        prove(made)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"_class_name": "AutoencoderKLCosmos"}, "not of AutoencoderKLWan"),
        ({}, "weights of None"),
        ({"_class_name": "AutoencoderKLWan"}, "latents_mean and latents_std"),
        ({"_class_name": "AutoencoderKLWan", "latents_mean": [0], "latents_std": [1]}, "16 chann"),
        ([], "no JSON object"),
    ],
)
def test_configs_that_are_not_wan_s(
    weights: Weights, tmp_path: Path, config: Any, says: str
) -> None:
    folder = copy(weights("wan"), tmp_path / "v")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=says):
        build("wan", weights=str(folder))


@pytest.mark.parametrize("name", ["AutoencoderKLNobody", "DiffusionPipeline", "os.system"])
def test_no_class_is_looked_up_that_is_no_video_vae(
    weights: Weights, tmp_path: Path, name: str
) -> None:
    folder = copy(weights("wan"), tmp_path / "v")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_class_name": name}))
    declared = {"channels": 16, "stride": [4, 8, 8], "causal": True}
    with pytest.raises(UserError, match=r"has no AutoencoderKLNobody|not of a video VAE"):
        build("diffusers", weights=str(folder), **declared).open()
    if name.startswith("AutoencoderKL"):
        with pytest.raises(UserError, match="declare channels, stride"):
            build("diffusers", weights=str(folder))


def test_only_safetensors_are_read(weights: Weights, tmp_path: Path) -> None:
    folder = copy(weights("wan"), tmp_path / "v")
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match=f"no {WEIGHTS}.*can hold code"):
        build("wan", weights=str(folder))


def test_tiles_are_another_codec_and_stay_causal(weights: Weights) -> None:
    whole, tiled = codec(weights, "wan"), codec(weights, "wan", tile=64)
    assert tiled.info.settings["tile"] == 64 and tiled.info != whole.info
    prove(tiled)
    small, large = noise(5), noise(5, 64, 128)
    assert (whole.encode(small) == tiled.encode(small)).all(), "no side is above it"
    assert whole.encode(large).shape == tiled.encode(large).shape
    assert (whole.encode(large) != tiled.encode(large)).any()
    with pytest.raises(UserError, match="tile=60 must be a multiple of 32"):
        codec(weights, "wan", tile=60)
    with pytest.raises(UserError, match="in no tiles of a given size"):
        codec(weights, "cosmos", tile=64).open()


def test_misfits_are_refused_before_the_vae_drops_frames(weights: Weights) -> None:
    with pytest.raises(ValueError, match="7 frames are not 1 \\+ 4k"):
        codec(weights, "wan").encode(noise(7))
    with pytest.raises(UserError, match="choose float32 or bfloat16"):
        codec(weights, "wan", dtype="float16")
