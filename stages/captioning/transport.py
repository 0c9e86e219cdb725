"""Questions over HTTP: limits in time, size and rate, patience with a busy server, and no leaks.

Four kinds of trouble are told apart. What a person must mend (a key, an address) raises `Unusable`.
A server that is busy or away is asked again, then raises `Away`. What it says of one question
raises `RefusedError`; an answer that takes too long raises `SlowError`.
"""

import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from stages.captioning.backend import Away, Unusable

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 529}
MOST_TOLD = 300


class RefusedError(Exception):
    """The server will not answer this question."""


class SlowError(Exception):
    """The answer was not whole in time."""


class GivenUpError(Exception):
    """Nobody waits for this answer any more."""


@dataclass(frozen=True)
class Limits:
    """
    Attributes:
        connect: seconds to reach the server.
        answer: seconds from a question to the end of its answer.
        patience: seconds for which a busy or absent server is asked again.
        per_minute: questions sent, at most; 0 for no limit.
        bytes: of one answer, at most.
        concurrency: connections.
    """

    connect: float
    answer: float
    patience: float
    per_minute: float
    bytes: int
    concurrency: int


@dataclass(frozen=True)
class Reply:
    """An answer with status 2xx."""

    headers: Mapping[str, str]
    body: bytes


class Transport:
    """One server, asked from several threads.

    Args:
        key: sent with every question and found in no message; None for none.
    """

    def __init__(self, address: str, key: str | None, limits: Limits) -> None:
        self._address = address
        self._key = key
        self._limits = limits
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(limits.answer, connect=limits.connect),
            limits=httpx.Limits(max_connections=limits.concurrency),
            follow_redirects=False,  # a key goes to the address it is meant for, and nowhere else
        )
        self._lock = threading.Lock()
        self._next = 0.0  # when the next question may go out

    def send(
        self,
        method: str,
        path: str,
        stop: threading.Event,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask until there is an answer.

        Raises:
            Unusable: the key or the address is wrong.
            Away: the server was busy or away for all our patience.
            RefusedError, SlowError: about this question alone.
            GivenUpError: ``stop`` was set meanwhile.
        """
        until = time.monotonic() + self._limits.patience
        for wait in _waits():
            self._take_turn(stop)
            try:
                return self._once(method, path, body, headers)
            except _BusyError as error:
                pause = wait if error.after is None else error.after
                if error.after is not None:
                    self._pause(pause)  # meant for all of us
                if time.monotonic() + pause > until:
                    raise Away(self._told(f"the server {self._address} {error}")) from error
                if stop.wait(pause):
                    raise GivenUpError from error
        raise AssertionError("waits have no end")

    def close(self) -> None:
        self._client.close()

    # -- one try ----------------------------------------------------------------------------------

    def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
    ) -> Reply:
        until = time.monotonic() + self._limits.answer
        url = f"{self._address}{path}"
        try:
            with self._client.stream(method, url, json=body, headers=headers) as response:
                found = self._read(response, until)
        except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
            raise SlowError(f"no answer within {self._limits.answer:g} s") from error
        except httpx.DecodingError as error:
            raise RefusedError(f"the answer cannot be unpacked: {error}") from error
        except httpx.TransportError as error:
            raise _BusyError(f"does not answer: {type(error).__name__}: {error}") from error
        if 200 <= response.status_code < 300:
            return Reply(response.headers, found)
        raise self._trouble(response, found)

    def _read(self, response: httpx.Response, until: float) -> bytes:
        found = bytearray()
        for piece in response.iter_bytes():
            found += piece
            if len(found) > self._limits.bytes:
                raise RefusedError(f"the answer is longer than {self._limits.bytes} bytes")
            if time.monotonic() > until:
                raise SlowError(f"no whole answer within {self._limits.answer:g} s")
        return bytes(found)

    def _trouble(self, response: httpx.Response, body: bytes) -> Exception:
        code = response.status_code
        said = self._told(f"{code}: {body.decode('utf-8', 'replace').strip()}")
        if code in BUSY:
            return _BusyError(f"is busy: {said}", _after(response.headers.get("retry-after")))
        if code in (401, 403):
            return Unusable(f"captions: {self._address} does not accept the key: {said}")
        if code == 404:
            return Unusable(f"captions: {self._address} knows no such model or path: {said}")
        if code < 400:
            return Unusable(
                f"captions: {self._address} answers from elsewhere ({code}): name the address that "
                "answers itself"
            )
        return RefusedError(said)

    def _told(self, text: str) -> str:
        """For people and logs: a server may say back what it was sent, and steer a terminal."""
        plain = "".join(char if char.isprintable() else " " for char in text)
        return (plain.replace(self._key, "***") if self._key else plain)[:MOST_TOLD]

    # -- the rate ---------------------------------------------------------------------------------

    def _take_turn(self, stop: threading.Event) -> None:
        """Wait until a question may go out."""
        gap = 60 / self._limits.per_minute if self._limits.per_minute else 0.0
        while True:
            with self._lock:
                wait = self._next - time.monotonic()
                if wait <= 0:
                    self._next = time.monotonic() + gap
                    return
            if stop.wait(wait):
                raise GivenUpError

    def _pause(self, seconds: float) -> None:
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class _BusyError(Exception):
    """Ask again; ``after`` seconds, where the server says when."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def _waits() -> Iterator[float]:
    """Seconds, each about twice the one before: threads that failed together come back apart."""
    wait = FIRST_WAIT
    while True:
        yield wait * random.uniform(0.5, 1.0)
        wait = min(2 * wait, LONGEST_WAIT)


def _after(told: str | None) -> float | None:
    """Seconds of a header Retry-After: a number or a date; None where it is neither."""
    if told is None:
        return None
    try:
        seconds = float(told)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(told).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), 1e6) if seconds == seconds else None
