import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from corpus import codecs
from corpus.clock import Clock
from corpus.codecs import DctCodec, OutOfMemory, from_description
from corpus.errors import UserError
from corpus.ids import sha256_file, unit_hash
from corpus.layout import Media
from corpus.video import write_video
from pipeline.faults import passing
from stages import latents as module
from stages.latents import LatentsConfig, LatentsStage
from stages.stage import Context

CHECKED = next(n for n in (f"{i:032x}" for i in range(99)) if unit_hash("latents", n) < 0.25)


def record(media: Media, name: str = CHECKED, chunks: int = 3, width: int = 32) -> dict[str, Any]:
    """A clip whose chunks have grey levels of their own: chunk i is 20 (1 + i) bright."""
    levels = [0, *(20 * (1 + i // 4) for i in range(4 * chunks))]
    frames = np.stack([np.full((16, width, 3), level, np.uint8) for level in levels])
    path = media.path(media.clip(name))
    write_video(path, frames, 16, "rgb_lossless")
    return {
        "clip_id": name,
        "shot_id": "s",
        "clip": media.clip(name),
        "clip_sha256": sha256_file(path),
        "chunks": chunks,
    }


def stage(media: Media, **config: Any) -> LatentsStage:
    return LatentsStage(LatentsConfig(**config), Context(media, Clock()))


def test_latent_one_plus_i_is_chunk_i(tmp_path: Path) -> None:
    media = Media(tmp_path)
    work = stage(media, settings={"channels": 12})
    one = record(media)
    ((row,),) = work.process([one])
    (after,) = work.advance(one, [row])
    latent = load_file(media.path(after["latent"]))["latent"]
    assert latent.dtype == np.float16 and latent.shape == (12, 4, 2, 4)
    assert sha256_file(media.path(after["latent"])) == after["latent_sha256"]
    frames = DctCodec(12).decode(latent.astype(np.float32))
    brightness = frames.mean((1, 2, 3))
    assert brightness == pytest.approx([0] + [20] * 4 + [40] * 4 + [60] * 4, abs=1)
    assert after["psnr"] > 45


def test_the_fingerprint_follows_the_codec_not_the_clip(tmp_path: Path) -> None:
    media = Media(tmp_path)
    assert stage(media).fingerprint == stage(media).fingerprint
    assert stage(media).fingerprint != stage(media, settings={"channels": 48}).fingerprint
    one = record(media)
    assert stage(media).key(one) != stage(media).key({**one, "clip_sha256": "other"})
    assert stage(media).key(one) == stage(media).key({**one, "shot_id": "other"})


def test_a_clip_of_another_length_than_promised_fails_alone(tmp_path: Path) -> None:
    media = Media(tmp_path)
    good, wrong = record(media), {**record(media, "d" * 32), "chunks": 5}
    (wrong_row,), (good_row,) = stage(media).process([wrong, good])
    assert (wrong_row.outcome, wrong_row.reason) == ("failed", "frame_count")
    assert "13 frames read, 21 expected" in str(wrong_row.message)
    assert good_row.outcome == "ok"


def test_a_size_that_the_codec_cannot_hold_fails_with_its_reason(tmp_path: Path) -> None:
    media = Media(tmp_path)
    one = record(media)
    write_video(media.path(one["clip"]), np.zeros((13, 20, 32, 3), np.uint8), 16, "rgb_lossless")
    ((row,),) = stage(media).process([one])
    assert (row.outcome, row.reason) == ("failed", "codec")
    assert "choose clip buckets" in str(row.message)


def test_names_alone_choose_the_clips_that_are_decoded_back(tmp_path: Path) -> None:
    """Another seed: the same fingerprint, hence it must be the same rows."""
    media = Media(tmp_path)
    records = [record(media, f"{i:032x}", 1) for i in range(12)]
    rows = stage(media).process(records)
    assert 0 < sum(row.columns["psnr"] is not None for (row,) in rows) < 12
    other = LatentsStage(LatentsConfig(), Context(media, Clock(), seed=7))
    assert other.fingerprint == stage(media).fingerprint
    assert other.process(records) == rows


def test_an_unknown_codec_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose one of cosmos, dct"):
        stage(Media(tmp_path), codec="wan21")


class Device(DctCodec):
    """`dct` on a device with room for so many clips at once; notes the sizes of its batches."""

    def __init__(self, room: int = 99) -> None:
        super().__init__(12)
        self.room, self.batches = room, list[tuple[int, ...]]()
        self.look: Callable[[], object] = lambda: None

    def encode_batch(self, frames: np.ndarray) -> np.ndarray:
        self.batches.append(frames.shape[:4])
        self.look()
        if len(frames) > self.room:
            raise OutOfMemory("CUDA out of memory")
        return super().encode_batch(frames)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setitem(codecs.BUILDERS, "device", lambda runtime: made)
    return made


def on_device(media: Media, **config: Any) -> LatentsStage:
    return stage(media, codec="device", gpus=0.5, **config)


def many(media: Media, sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Clips of these (chunks, width)."""
    return [record(media, f"{i:032x}", *size) for i, size in enumerate(sizes)]


SIZES = [(1, 32), (2, 32), (1, 48), (1, 32), (2, 32), (1, 32), (1, 48), (1, 32)]


def test_clips_of_one_size_are_encoded_at_once(tmp_path: Path, device: Device) -> None:
    media = Media(tmp_path)
    work, records = on_device(media), many(media, SIZES)
    rows = work.process(records)
    assert sorted(device.batches) == [(2, 5, 16, 48), (2, 9, 16, 32), (4, 5, 16, 32)]
    assert work.resources.gpus == 0.5 and work.resources.patient and not work.told()
    alone = [stage(media, settings={"channels": 12}).process([one])[0] for one in records]
    for one, (here,), (there,) in zip(records, rows, alone, strict=True):
        assert here.id == one["clip_id"]
        assert here.columns["latent_sha256"] == there.columns["latent_sha256"]
        assert here.columns["psnr"] == there.columns["psnr"]


def test_out_of_memory_halves_the_batch_and_goes_on(tmp_path: Path, device: Device) -> None:
    media = Media(tmp_path)
    work, records = on_device(media, at_once=8), many(media, [(1, 32)] * 7)
    expected = [stage(media, settings={"channels": 12}).process([one])[0] for one in records]
    device.room = 2
    digests = [row.columns["latent_sha256"] for (row,) in work.process(records)]
    assert digests == [row.columns["latent_sha256"] for (row,) in expected]
    assert [count for count, *_ in device.batches] == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert work.told() == {"halved": 2} and work.told() == {}


def test_what_fitted_is_remembered_by_size(tmp_path: Path, device: Device) -> None:
    media = Media(tmp_path)
    work, records = on_device(media), many(media, [(1, 32)] * 4)
    device.room = 2
    work.process(records)
    device.batches.clear()
    work.process(records)
    assert [count for count, *_ in device.batches] == [2, 2], "it is not tried in vain again"
    device.batches.clear()
    work.process(many(media, [(1, 48)] * 2))
    assert [count for count, *_ in device.batches] == [2], "another size is another matter"


def test_a_clip_that_does_not_fit_alone_is_left_with_what_to_do(
    tmp_path: Path, device: Device
) -> None:
    media = Media(tmp_path)
    device.room = 0
    with pytest.raises(MemoryError, match=r"5 frames of 32x16 .*latents.settings.tile") as raised:
        on_device(media).process(many(media, [(1, 32)] * 3))
    assert passing(raised.value), "another device may have room: put off, no verdict"


def test_clips_are_read_while_others_are_encoded_and_not_too_many(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    media, lock = Media(tmp_path), threading.Condition()
    records, begun = many(media, [(1, 32)] * 12), list[Path]()
    read, seen = module.read_video, list[int]()

    def counted(path: Path) -> np.ndarray:
        with lock:
            begun.append(path)
            lock.notify()
        return read(path)

    def look() -> None:
        with lock:
            done = len(device.batches)
            assert lock.wait_for(lambda: len(begun) >= min(done + 1, 12), timeout=20), "none ahead"
            seen.append(len(begun) - done)

    monkeypatch.setattr(module, "read_video", counted)
    device.look = look
    rows = on_device(media, at_once=1, readers=2).process(records)
    assert all(row.outcome == "ok" for (row,) in rows) and len(seen) == 12
    assert max(seen) <= 3, "two readers are two or three clips ahead, not all of them"


def test_what_is_only_diagnosed_makes_no_latent_anew(tmp_path: Path) -> None:
    media = Media(tmp_path)
    records = many(media, [(1, 32)] * 12)
    plain = stage(media)
    for config in ({"check": 1.0}, {"check": 0.0}, {"floor": 40.0}, {"at_once": 1}, {"readers": 3}):
        assert stage(media, **config).fingerprint == plain.fingerprint

    def checked(share: float) -> int:
        rows = stage(media, check=share).process(records)
        return sum(row.columns["psnr"] is not None for (row,) in rows)

    assert checked(0.0) == 0 < checked(0.5) < checked(1.0) == 12
    assert plain.floor == DctCodec.floor and stage(media, floor=40.0).floor == 40.0


def test_a_look_for_which_there_is_no_room_stops_nothing(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(latent: np.ndarray) -> np.ndarray:
        raise OutOfMemory("CUDA out of memory")

    monkeypatch.setattr(device, "decode", decode)
    media = Media(tmp_path)
    work = on_device(media, check=1.0)
    ((row,),) = work.process([record(media)])
    assert row.outcome == "ok" and row.columns["psnr"] is None
    assert work.told() == {"unchecked": 1}


@pytest.mark.parametrize(("value", "says"), [(np.nan, "is not finite"), (1e6, "overflows float16")])
def test_no_latent_is_written_that_is_not_finite(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch, value: float, says: str
) -> None:
    """One clip of a batch, and the others go on."""
    media = Media(tmp_path)
    encode = device.encode_batch

    def spoilt(frames: np.ndarray) -> np.ndarray:
        latents = encode(frames)
        latents[1, 0, 0, 0, 0] = value
        return latents

    monkeypatch.setattr(device, "encode_batch", spoilt)
    work, records = on_device(media), many(media, [(1, 32)] * 3)
    rows = [row for (row,) in work.process(records)]
    assert [row.outcome for row in rows] == ["ok", "failed", "ok"]
    assert rows[1].reason == "not_finite" and says in str(rows[1].message)
    written = {name.split("/")[-1] for name in media.store.names("latents/")}
    assert written == {f"{records[n]['clip_id']}.safetensors" for n in (0, 2)}


def test_a_codec_that_sees_the_future_is_refused_before_anything_runs(
    tmp_path: Path, device: Device
) -> None:
    description = {**DctCodec(12).info.to_json(), "causal": False}
    device.info = codecs.CodecInfo.from_json(description)
    with pytest.raises(UserError, match=r"not causal.*choose a causal codec"):
        on_device(Media(tmp_path))
    device.info = codecs.CodecInfo.from_json({**description, "causal": True, "stride": [8, 8, 8]})
    with pytest.raises(UserError, match="a latent of 8 frames, the clock's chunk has 4"):
        on_device(Media(tmp_path))


def test_a_codec_is_proved_when_a_worker_opens_it(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = on_device(Media(tmp_path))
    work.open()
    encode = device.encode_batch
    monkeypatch.setattr(device, "encode_batch", lambda frames: encode(frames[:, ::-1]))
    with pytest.raises(UserError, match="declared causal, and yet changing frames 5 to 8"):
        work.open()


def test_a_recipe_remembers_weights_by_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tv2tv status` and others read a run's recipe in other folders."""
    (tmp_path / "basis").mkdir()
    monkeypatch.chdir(tmp_path)
    assert LatentsConfig(weights="basis/").weights == str(tmp_path / "basis")
    assert LatentsConfig(weights="owner/name@main").weights == "owner/name@main"


def test_where_weights_lie_is_no_setting_of_the_codec(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="codec wan: has no setting weights"):
        stage(Media(tmp_path), codec="wan", settings={"weights": "here"})
    with pytest.raises(UserError, match="codec dct has no weights"):
        stage(Media(tmp_path), weights="here")


def test_the_header_s_codec_builds_the_decoder(tmp_path: Path) -> None:
    work = stage(Media(tmp_path), settings={"channels": 12})
    assert from_description(work.identity()["codec"]).info == work.codec.info
