"""HTTP(S) under an address policy: only where the recipe allows, also after redirects.

The address that is checked is the one that is connected to: a host name is resolved once, here, and
the socket goes to an address that passed. A name that resolves to something else a moment later
(DNS rebinding) gains nothing. Proxies of the environment are not used, since they would resolve
names themselves.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from corpus.layout import TOOL, TOOL_VERSION
from pipeline.inputs.uris import stored

WEB = ("http", "https")
BLOCK = 1 << 20
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_SAFE = "/%:@!$&'()*+,;=?~-._"  # what stays as it is: a URI is quoted already
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class RemoteConfig(BaseModel):
    """Which remote inputs may be fetched, and how.

    Attributes:
        schemes: of URIs.
        hosts: patterns of host names, or of buckets; of redirects' too.
        private_addresses: whether hosts may be in private, loopback, link-local or reserved ranges.
        redirects: most that are followed for one file.
        max_mb: MiB of one file.
        timeout: seconds in which a server must answer, and send a next piece.
        max_seconds: for one file.
        tries: attempts in one run before a file that cannot be had now is left to the next.
        downloads: files at once, while they are named by their bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    schemes: tuple[str, ...] = ("https", "http", "s3", "gs", "gcs", "abfs")
    hosts: tuple[str, ...] = ("*",)
    private_addresses: bool = False
    redirects: int = Field(default=5, ge=0)
    max_mb: float = Field(default=65536.0, gt=0)
    timeout: float = Field(default=30.0, gt=0)
    max_seconds: float = Field(default=6 * 3600.0, gt=0)
    tries: int = Field(default=3, ge=1)
    downloads: int = Field(default=8, ge=1)

    @property
    def max_bytes(self) -> int:
        return int(self.max_mb * 2**20)


class Refused(Exception):
    """A file that will not be had by trying again.

    Attributes:
        reason: ``refused`` (by policy), ``too_large``, ``not_found`` or ``http_<status>``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def check_uri(uri: str, config: RemoteConfig) -> SplitResult:
    """Raise Refused unless scheme and host of a URI are allowed."""
    try:
        parts = urlsplit(uri)
        host, _ = parts.hostname or parts.netloc, parts.port
    except ValueError as error:
        raise Refused("refused", f"it is no URI: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise Refused("refused", "credentials do not belong in a URI")
    if not host:
        raise Refused("refused", f"it names no {'host' if parts.scheme in WEB else 'bucket'}")
    if parts.scheme not in config.schemes:
        known = ", ".join(config.schemes) or "none"
        raise Refused("refused", f"source.remote.schemes allows {known}, not {parts.scheme!r}")
    if not any(fnmatch(host.lower(), pattern.lower()) for pattern in config.hosts):
        raise Refused("refused", f"source.remote.hosts does not allow {host!r}")
    return parts


def is_public(address: Address) -> bool:
    """Whether an address is on the open internet, also as what an IPv6 address wraps."""
    if isinstance(address, ipaddress.IPv6Address):
        wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if not all(is_public(one) for one in wrapped if one is not None):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast and not address.is_reserved


def addresses(host: str, port: int, config: RemoteConfig) -> list[str]:
    """Addresses of a host that may be connected to.

    Raises:
        Refused: there are some, and none is allowed.
        OSError: the name cannot be resolved now.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise Refused("refused", f"{host!r} is no host name: {error}") from error
    texts = list(dict.fromkeys(str(info[4][0]) for info in found))
    allowed = [
        text
        for text in texts
        if config.private_addresses or is_public(ipaddress.ip_address(text.partition("%")[0]))
    ]
    if not allowed:
        raise Refused(
            "refused",
            f"{host} is at {texts[0]}, which is no public address "
            "(source.remote.private_addresses allows it)",
        )
    return allowed


class TooSlow(TimeoutError):
    """A file that took all the time it is given; asked for again, it would once more."""


class Answer:
    """A response with a body.

    Attributes:
        status: 200 or 304.
        validator: what to ask with next time: an ETag, or else the time of the last change.
    """

    def __init__(self, response: HTTPResponse, url: str, config: RemoteConfig) -> None:
        self.status = response.status
        self.validator = response.getheader("ETag") or response.getheader("Last-Modified")
        self._response, self._url, self._config = response, stored(url), config

    def save(self, file: IO[bytes]) -> int:
        """Write the body; returns its size.

        Raises:
            Refused: it is too large, by what came, whatever was announced; or it is compressed,
                which nobody asked for: those bytes are not the file's.
            OSError: it broke off.
        """
        coding = self._response.getheader("Content-Encoding") or "identity"
        if coding.lower() != "identity":
            raise Refused("encoded", f"the server sends it as {coding}, though asked not to")
        total, limit = 0, self._config.max_bytes
        announced = self._response.getheader("Content-Length")
        if announced is not None and announced.isdigit() and int(announced) > limit:
            raise Refused("too_large", f"{announced} bytes are announced, {limit} are allowed")
        while piece := self._response.read1(BLOCK):
            total += len(piece)
            if total > limit:
                raise Refused("too_large", f"more than the {limit} bytes that are allowed")
            file.write(piece)
        if announced is not None and announced.isdigit() and total != int(announced):
            raise OSError(f"{self._url}: {total} bytes came of {announced}")
        if announced is None and not total and not self._response.chunked:
            raise OSError(f"{self._url}: the answer broke off before its body")
        return total


@contextmanager
def opened(url: str, config: RemoteConfig, known: str | None = None) -> Iterator[Answer]:
    """Ask for a file, following redirects as far as they are allowed.

    Args:
        known: the validator of the copy one has; if that is still good the answer is 304.

    Raises:
        Refused, OSError: see `Answer.save`; OSError too for answers that may change by themselves.
        TooSlow: it took all the time it is given.
    """
    deadline = time.monotonic() + config.max_seconds
    for _ in range(config.redirects + 1):
        parts = check_uri(url, config)
        if parts.scheme not in WEB:
            raise Refused("refused", f"a redirect leads to {parts.scheme}://")
        connection = _connected(parts, config)
        held = connection.sock.dup()  # stays what it is, whatever TLS and HTTP make of the other
        try:
            no_answer = TimeoutError(f"{stored(url)}: no answer in {config.timeout:g} s")
            with _limited(held, config.timeout, no_answer):
                _secure(connection)
                response = _asked(connection, parts, known)
            if response.status in (200, 304):
                too_slow = TooSlow(f"{stored(url)}: not done in {config.max_seconds:g} s")
                try:
                    with _limited(held, deadline - time.monotonic(), too_slow):
                        yield Answer(response, url, config)
                except HTTPException as error:
                    raise OSError(f"{stored(url)}: {type(error).__name__}: {error}") from error
                return
            url = _elsewhere(response, url)
        finally:
            connection.close()
            held.close()
    raise Refused("refused", f"more than {config.redirects} redirects")


def _connected(parts: SplitResult, config: RemoteConfig) -> HTTPConnection:
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection: HTTPConnection = kind(host, port, timeout=config.timeout)
    failed: OSError | None = None
    for address in addresses(host, port, config):
        try:
            raw = socket.create_connection((address, port), config.timeout)
        except OSError as error:
            failed = error
            continue
        connection.sock = raw
        return connection
    raise OSError(f"{host}: no connection: {failed}") from failed


@contextmanager
def _limited(sock: socket.socket, seconds: float, late: TimeoutError) -> Iterator[None]:
    """End a connection after so many seconds, whatever trickles in: who reads it sees its end.

    Raises:
        TimeoutError: ``late``, if it was ended. A header that ends there may look like a whole one.
    """
    ended = threading.Event()

    def cut() -> None:
        ended.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, seconds), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, HTTPException) as error:
        if ended.is_set():
            raise late from error
        raise
    finally:
        timer.cancel()
    if ended.is_set():
        raise late


def _secure(connection: HTTPConnection) -> None:
    if isinstance(connection, HTTPSConnection):
        context = ssl.create_default_context()
        connection.sock = context.wrap_socket(connection.sock, server_hostname=connection.host)


def _asked(connection: HTTPConnection, parts: SplitResult, known: str | None) -> HTTPResponse:
    target = quote(parts.path or "/", safe=_SAFE)
    target += f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
    headers: dict[str, Any] = {
        "User-Agent": f"{TOOL}/{TOOL_VERSION}",
        "Accept-Encoding": "identity",
    }
    if known is not None:
        is_tag = known.startswith(('"', "W/"))
        headers["If-None-Match" if is_tag else "If-Modified-Since"] = known
    try:
        connection.request("GET", target, headers=headers)
        return connection.getresponse()
    except (HTTPException, ValueError) as error:
        raise OSError(f"{parts.netloc}: {type(error).__name__}: {error}") from error


def _elsewhere(response: HTTPResponse, url: str) -> str:
    """Where a response that holds no file sends us."""
    status, where = response.status, response.getheader("Location")
    if status in (301, 302, 303, 307, 308) and where:
        return urljoin(url, where)
    if status in (404, 410):
        raise Refused("not_found", f"the server says {status} {response.reason}")
    if status in (408, 425, 429) or status >= 500:
        raise OSError(f"{stored(url)}: the server says {status} {response.reason}")
    raise Refused(f"http_{status}", f"the server says {status} {response.reason}")
