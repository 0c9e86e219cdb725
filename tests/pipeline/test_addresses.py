"""What may be fetched from where, against a server on the loopback address."""

import contextlib
import gzip
import io
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from web import Web, serving

from pipeline.inputs import addresses
from pipeline.inputs.addresses import Refused, RemoteConfig, check_uri, is_public, opened

OPEN = RemoteConfig(private_addresses=True, timeout=5.0)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as found:
        yield found


def get(url: str, config: RemoteConfig = OPEN, known: str | None = None) -> bytes:
    file = io.BytesIO()
    with opened(url, config, known) as answer:
        answer.save(file)
    return file.getvalue()


def refusal(url: str, config: RemoteConfig = OPEN) -> Refused:
    with pytest.raises(Refused) as found:
        get(url, config)
    return found.value


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        *("0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1"),  # noqa: S104
        *("::1", "::", "fe80::1", "fc00::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1"),
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # teredo around 127.0.0.1
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


class TestByDefault:
    @pytest.mark.parametrize(
        "host",
        [
            *("127.0.0.1", "localhost", "localhost.", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]"),
            *("2130706433", "0x7f.1", "0177.0.0.1", "127.1", "0", "[::]", "[::127.0.0.1]"),
        ],
    )
    def test_this_machine_is_refused_however_it_is_spelt(self, web: Web, host: str) -> None:
        web.file("/a.mp4", b"film")
        try:
            found = refusal(web.url("/a.mp4", host), RemoteConfig())
        except OSError:
            return  # no such name here: no connection either
        assert found.reason == "refused" and "no public address" in str(found)
        assert web.asked == []

    def test_it_is_the_address_that_counts_and_not_the_name(
        self, web: Web, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name that gives a public address when it is checked and a private one when it is
        connected to would pass, if it were resolved twice."""
        web.file("/a.mp4", b"film")
        answers = iter([["93.184.216.34"], ["127.0.0.1"]])
        calls = []

        def rebinding(host: str, port: int, **_: object) -> list[object]:
            return [(2, 1, 6, "", (address, port)) for address in next(answers)]

        def connect(address: tuple[str, int], timeout: float) -> socket.socket:
            calls.append(address[0])
            raise ConnectionRefusedError

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        monkeypatch.setattr(socket, "create_connection", connect)
        with pytest.raises(OSError, match="no connection"):
            get(f"http://rebind.example:{web.port}/a.mp4", RemoteConfig())
        assert calls == ["93.184.216.34"]

    def test_private_addresses_among_public_ones_are_left_out(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = [(2, 1, 6, "", (address, 80)) for address in ("10.0.0.1", "8.8.8.8")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert addresses.addresses("x", 80, RemoteConfig()) == ["8.8.8.8"]


def test_what_is_allowed_comes_whole(web: Web) -> None:
    data = bytes(range(256)) * 10_000
    assert get(web.file("/a.mp4", data)) == data
    web.file("/c%20d.mp4?v=%C3%A9", b"x")
    assert get(web.url("/c d.mp4?v=é")) == b"x", "it is quoted on the way"


@pytest.mark.parametrize(
    ("uri", "config", "message"),
    [
        ("ftp://host/a.mp4", OPEN, "schemes"),
        ("http://evil.example/a.mp4", RemoteConfig(hosts=("*.good.example",)), "hosts"),
        ("http://good.example.evil/a", RemoteConfig(hosts=("good.example",)), "hosts"),
        ("s3://other-bucket/a.mp4", RemoteConfig(hosts=("films-*",)), "hosts"),
        ("http://user:pass@host/a.mp4", OPEN, "credentials"),
        ("http://8.8.8.8@127.0.0.1/a.mp4", OPEN, "credentials"),
        ("https:///a.mp4", OPEN, "names no host"),
        ("s3:///a.mp4", OPEN, "names no bucket"),
        ("http://[bad/a.mp4", OPEN, "no URI"),
        ("http://host:port/a.mp4", OPEN, "no URI"),
    ],
)
def test_what_the_policy_forbids_is_not_asked_for(
    uri: str, config: RemoteConfig, message: str
) -> None:
    with pytest.raises(Refused, match=message) as found:
        check_uri(uri, config)
    assert "pass" not in str(found.value)


class TestRedirects:
    def test_they_are_followed_into_allowed_hosts(self, web: Web) -> None:
        web.status("/old", 302, "/new")
        web.file("/new", b"film")
        assert get(web.url("/old")) == b"film"

    def test_not_into_others(self, web: Web) -> None:
        web.status("/old", 302, web.url("/new", "localhost"))
        web.file("/new", b"film")
        config = OPEN.model_copy(update={"hosts": ("127.0.0.1",)})
        assert "localhost" in str(refusal(web.url("/old"), config))
        assert web.times("/new") == 0

    def test_not_to_private_addresses(self, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first host may be public: the second is checked as well."""
        web.status("/old", 302, web.url("/new", "127.0.0.1"))
        real = addresses.addresses

        def first_is_public(host: str, port: int, config: RemoteConfig) -> list[str]:
            return ["127.0.0.1"] if host == "localhost" else real(host, port, config)

        monkeypatch.setattr(addresses, "addresses", first_is_public)
        assert "no public" in str(refusal(web.url("/old", "localhost"), RemoteConfig()))

    @pytest.mark.parametrize("where", ["file:///etc/passwd", "s3://bucket/a", "gopher://x/"])
    def test_not_out_of_the_web(self, web: Web, where: str) -> None:
        assert refusal(web.status("/old", 302, where)).reason == "refused"

    def test_not_for_ever(self, web: Web) -> None:
        assert "redirects" in str(refusal(web.status("/loop", 301, "/loop")))
        assert web.times("/loop") == OPEN.redirects + 1


class TestSize:
    SMALL = OPEN.model_copy(update={"max_mb": 1000 / 2**20})

    def test_what_announces_too_much_is_not_read(self, web: Web) -> None:
        found = refusal(web.file("/a", b"x" * 2000), self.SMALL)
        assert found.reason == "too_large" and "announced" in str(found)

    def test_what_comes_counts_when_nothing_is_announced(self, web: Web) -> None:
        url = web.file("/a", b"x" * 2000, said=-1)
        assert refusal(url, self.SMALL).reason == "too_large"

    def test_a_stream_without_end_is_cut_off(self, web: Web) -> None:
        def endless(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            while True:
                handler.wfile.write(b"x" * 65536)

        web.replies["/a"] = endless
        assert refusal(web.url("/a"), self.SMALL).reason == "too_large"


def test_who_trickles_is_cut_off(web: Web) -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.05)

    web.replies["/a"] = trickle
    config = OPEN.model_copy(update={"max_seconds": 0.5})
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        get(web.url("/a"), config)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("host", ["a" * 70, ".", "a..b"])
def test_what_is_no_host_name_is_refused(host: str) -> None:
    with pytest.raises((Refused, OSError)) as found:
        get(f"http://{host}/a.mp4")
    assert not isinstance(found.value, UnicodeError)


def test_who_trickles_before_the_answer_is_cut_off(web: Web) -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.05)

    web.replies["/a"] = trickle
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        get(web.url("/a"), OPEN.model_copy(update={"timeout": 0.5}))
    assert time.monotonic() - begun < 10


def test_a_header_that_breaks_off_is_no_empty_file(web: Web) -> None:
    web.replies["/a"] = lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Broken: ")
    with pytest.raises(OSError, match="broke off"):
        get(web.url("/a"))


def test_a_handshake_without_end_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            peer, _ = server.accept()
            with peer, contextlib.suppress(OSError):
                peer.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB begins
                while True:
                    peer.sendall(b"x")
                    time.sleep(0.05)

        threading.Thread(target=trickle, daemon=True).start()
        begun = time.monotonic()
        with pytest.raises(OSError):
            url = f"https://127.0.0.1:{server.getsockname()[1]}/a"
            get(url, OPEN.model_copy(update={"timeout": 0.5}))
    assert time.monotonic() - begun < 10


def test_what_comes_compressed_is_no_file(web: Web) -> None:
    """A bomb would be kept as it came, and never unpacked: but it is not the film either."""

    def bomb(handler: BaseHTTPRequestHandler) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        handler.wfile.write(gzip.compress(bytes(10_000_000)))

    web.replies["/a"] = bomb
    assert refusal(web.url("/a")).reason == "encoded"


def test_who_says_nothing_is_given_up(web: Web) -> None:
    web.replies["/a"] = lambda handler: time.sleep(2)
    with pytest.raises(OSError):
        get(web.url("/a"), OPEN.model_copy(update={"timeout": 0.2}))


@pytest.mark.parametrize(
    ("code", "reason"),
    [(404, "not_found"), (410, "not_found"), (401, "http_401"), (403, "http_403")],
)
def test_answers_that_will_stay(web: Web, code: int, reason: str) -> None:
    assert refusal(web.status("/a", code)).reason == reason


@pytest.mark.parametrize("code", [408, 429, 500, 503])
def test_answers_that_may_pass(web: Web, code: int) -> None:
    with pytest.raises(OSError, match=str(code)):
        get(web.status("/a", code))


def test_half_a_file_is_none(web: Web) -> None:
    with pytest.raises(OSError, match="4 bytes came of 10"):
        get(web.file("/a", b"half", said=10))


def test_what_one_has_is_not_sent_again(web: Web) -> None:
    url = web.file("/a", b"film", etag='"1"')
    with opened(url, OPEN) as answer:
        assert (answer.status, answer.validator) == (200, '"1"')
    with opened(url, OPEN, '"1"') as answer:
        assert answer.status == 304
