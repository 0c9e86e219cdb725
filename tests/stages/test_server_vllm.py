"""The backend `server` against a real vLLM server that the test starts, with a tiny model."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from tiny_engine import COLOURS, ask, needs_vllm, noise, one_of, question, running
from tiny_vlm import build

from stages.captioning.backend import Unusable
from stages.captioning.protocol import name_of
from stages.captioning.server import ServerBackend
from stages.captioning.server_config import ServerConfig
from stages.captioning.transport import Transport
from stages.captioning.worded import Decoding

pytestmark = [pytest.mark.slow, needs_vllm]
KEY = "a-key-of-the-test"
STRUCTURED = '{"backend": "xgrammar", "disable_any_whitespace": true}'
START_SECONDS = 400  # a loaded machine takes long


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def address(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--served-model-name", "tiny", "--dtype", "float32"),
        *("--max-model-len", "1024", "--max-num-seqs", "8", "--enforce-eager"),
        *("--host", "127.0.0.1", "--port", str(port), "--api-key", KEY),
        *("--structured-outputs-config", STRUCTURED),
    ]
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait(server: subprocess.Popen[bytes], root: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"{root}/health", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise AssertionError(f"the server did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture
def server(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerBackend]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SERVER_KEY", KEY)
    yield _backend(address)


def _backend(address: str, **settings: object) -> ServerBackend:
    told = {
        "address": address,
        "model": "tiny",
        "key_env": "SERVER_KEY",
        "concurrency": 4,
        "patience": 5,
        "decoding": Decoding(max_tokens=64),
        **settings,
    }
    return ServerBackend(ServerConfig.model_validate(told))


@pytest.mark.parametrize("show", ["video", "images"])
def test_captions_checks_and_counts(server: ServerBackend, address: str, show: str) -> None:
    backend = _backend(address, show=show)
    backend.open()
    segments = [question(backend, shown=noise(i), before=noise(i + 9, 3)) for i in range(6)]
    check = question(backend, "Is it so?", kind="check", schema={}, choices=("yes", "no"))
    *captions, checked = ask(backend, *segments, check)
    allowed = COLOURS["properties"]["caption"]["enum"]
    assert all(one.status == "ok" and one.text in allowed for one in captions)
    assert all(one.detail.tokens_out > 5 and one.detail.tokens_in > 50 for one in captions)
    assert sum(checked.likely.values()) == pytest.approx(1) and min(checked.likely.values()) > 0


def test_the_server_sees_frames_beyond_its_own_limit_of_a_video(
    server: ServerBackend, address: str
) -> None:
    """vLLM takes 32 frames of a sequence and drops the others unsaid, unless told not to."""
    few, many = (question(server, shown=noise(0, count, 16, (28, 28))) for count in (32, 48))
    fewer, more = ask(server, few, many)
    assert more.detail.tokens_in - fewer.detail.tokens_in >= 8


def test_the_server_gives_ids_back(server: ServerBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an answer to another question can be told: here the ids are seen in its answers."""
    told: list[bytes] = []
    send = Transport.send

    def listen(self: Transport, *arguments: object, **more: object) -> object:
        reply = send(self, *arguments, **more)  # type: ignore[arg-type]
        told.append(reply.body)
        return reply

    monkeypatch.setattr(Transport, "send", listen)
    request = question(server)
    ask(server, request)
    assert any(name_of(request).encode() in one for one in told)


def test_statuses_of_a_real_server(server: ServerBackend) -> None:
    long = one_of("the camera pans left and a ball rolls to the right and falls down there")
    cut = question(server, schema=long, sampling={**server.sampling, "max_tokens": 5})
    loop = question(server, "b", schema=one_of("a ball rolls " * 20))
    loop = replace(loop, sampling={**server.sampling, "max_tokens": 300})
    narrow = question(server, "c", shown=noise(1, size=(4, 1200)))
    ask(server, question(server, "first"))
    found = ask(server, cut, loop, narrow)
    assert [one.status for one in found] == ["truncated", "degenerate", "error"]


def test_a_wrong_key_or_model_stops_the_run(
    server: ServerBackend, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unusable, match="has no model other, but tiny"):
        _backend(address, model="other").open()
    monkeypatch.setenv("SERVER_KEY", "wrong")
    backend = _backend(address)
    with pytest.raises(Unusable, match="does not accept the key"):
        ask(backend, question(backend))


def test_server_and_engine_agree_on_choices(server: ServerBackend, model: Path) -> None:
    """One weighs first tokens under a grammar, the other whole choices: single tokens are alike."""
    choices = ("a", "b", "c")
    check = question(server, "Which?", kind="check", schema={}, choices=choices)
    images = replace(check, shown=noise(3, 1))
    (far,) = ask(server, images)
    with running(model) as engine:
        (near,) = ask(engine, replace(images, model=engine.model, sampling=engine.sampling))
    assert far.likely == pytest.approx(near.likely, abs=0.05)  # frames went as JPEG
    assert max(far.likely.values()) - min(far.likely.values()) > 0
