"""Backend `server`: any endpoint that speaks the OpenAI chat protocol.

Every question carries its id; a server that gives ids back must give back the right one. Several
are under way at once, and answers are taken as they come.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from corpus.errors import UserError
from stages.captioning.answers import understand
from stages.captioning.backend import (
    OK,
    CaptionAnswer,
    CaptionBackend,
    CaptionRequest,
    Detail,
    Needs,
    Unusable,
)
from stages.captioning.protocol import Envelope, MalformedError, body, check, name_of, opened
from stages.captioning.server_config import ServerConfig
from stages.captioning.transport import GivenUpError, Limits, RefusedError, SlowError, Transport

MILLION = 1e6
Ask = Callable[[Transport, CaptionRequest, threading.Event], CaptionAnswer]


class ServerBackend(CaptionBackend):
    """Asks a model that runs elsewhere.

    Raises:
        UserError: the recipe names no address or no model.
    """

    prompt = None

    def __init__(self, config: ServerConfig) -> None:
        if not config.address or not config.model:
            raise UserError(
                "captions: name the server's address and model (captions.server.address, .model)"
            )
        self.config = config
        self.model = f"{config.model}@{config.revision}" if config.revision else config.model
        self.view = config.view()
        self.sampling = config.decoding.model_dump()
        self.again = config.again.model_dump()
        self.limit = config.concurrency
        self.needs = Needs(cpus=config.cpus, workers=config.workers)
        self._transport: Transport | None = None
        self._crew: _Crew | None = None
        self._worked = False

    def identity(self) -> dict[str, Any]:
        names = ("show", "script", "language", "dialect", "picture", "quality")
        return {**super().identity(), **{name: getattr(self.config, name) for name in names}}

    def open(self) -> None:
        """Look whether the server is there, takes the key and has the model.

        Raises:
            Unusable: it does not.
            Away: it did not answer.
        """
        transport = self._open()
        try:
            reply = transport.send("GET", "/models", threading.Event())
            known = {str(one["id"]) for one in json.loads(reply.body)["data"]}
        except (RefusedError, SlowError, ValueError, KeyError, TypeError):
            return  # it lists nothing that we could read: the first question will tell
        if known and self.config.model not in known:
            raise Unusable(
                f"captions: {self.config.address} has no model {self.config.model}, but "
                f"{', '.join(sorted(known)[:10])}"
            )

    def submit(self, requests: Sequence[CaptionRequest]) -> None:
        """Queue questions.

        Raises:
            UserError: choices of one cannot be told apart by their first tokens.
        """
        for request in requests:
            check(request.choices)
        self._crew = self._crew or _Crew(self._open(), self._ask, self.config.concurrency)
        self._crew.take(requests)

    def collect(self) -> list[CaptionAnswer]:
        """Take what has come; waits for the first.

        Raises:
            Unusable, Away, BindingError: see `transport`.
        """
        return self._crew.give() if self._crew else []

    def cancel(self) -> None:
        crew, self._crew = self._crew, None
        if crew:
            crew.stop.set()

    def _open(self) -> Transport:
        if self._transport is None:
            c = self.config
            key = os.environ.get(c.key_env, "").strip() or None
            if c.key_env and not (key and key.isascii() and key.isprintable()):
                raise Unusable(f"captions: the environment variable {c.key_env} holds no key")
            limits = Limits(
                c.connect, c.timeout, c.patience, c.per_minute, c.most_bytes, c.concurrency
            )
            self._transport = Transport(c.address, key, limits)
        return self._transport

    # -- in a thread ------------------------------------------------------------------------------

    def _ask(
        self, transport: Transport, request: CaptionRequest, stop: threading.Event
    ) -> CaptionAnswer:
        start = time.monotonic()
        try:
            reply = transport.send(
                "POST",
                "/chat/completions",
                stop,
                body(request, self.config),
                {"X-Request-Id": name_of(request), "X-Client-Request-Id": name_of(request)},
            )
            envelope = opened(request, reply, self.config)
        except SlowError as error:
            return request.answer("timeout", message=str(error))
        except (RefusedError, MalformedError) as error:
            if not self._worked:  # more likely our settings than this question
                raise UserError(f"captions: {self.config.address} answers: {error}") from error
            return request.answer("error", message=str(error))
        self._worked = True
        return self._answer(request, envelope, time.monotonic() - start)

    def _answer(self, request: CaptionRequest, envelope: Envelope, seconds: float) -> CaptionAnswer:
        read, written = envelope.tokens_in, envelope.tokens_out
        cost = (read * self.config.price_in + written * self.config.price_out) / MILLION
        detail = Detail(read, written, seconds, cost)
        likely = envelope.likely
        if request.choices and likely:
            return request.answer(OK, max(likely, key=lambda one: likely[one]), "", detail, likely)
        if request.choices:
            message = "the model would say none of the choices"
            return request.answer("schema", envelope.raw, message, detail)
        found = understand(request, envelope.raw, envelope.end, self.config)
        return request.answer(found.status, found.text, found.message, detail)


class _Crew:
    """Threads that ask. Once stopped, whatever they still hear is dropped with them."""

    def __init__(self, transport: Transport, ask: Ask, size: int) -> None:
        self.stop = threading.Event()
        self._transport, self._ask = transport, ask
        self._open = 0
        self._orders: queue.SimpleQueue[CaptionRequest] = queue.SimpleQueue()
        self._heard: queue.SimpleQueue[CaptionAnswer | Exception] = queue.SimpleQueue()
        for _ in range(size):
            threading.Thread(target=self._work, name="captions", daemon=True).start()

    def take(self, requests: Sequence[CaptionRequest]) -> None:
        self._open += len(requests)
        for request in requests:
            self._orders.put(request)

    def give(self) -> list[CaptionAnswer]:
        found: list[CaptionAnswer] = []
        while self._open and not (found and self._heard.empty()):
            one = self._heard.get()
            self._open -= 1
            if isinstance(one, Exception):
                raise one
            found.append(one)
        return found

    def _work(self) -> None:
        while not self.stop.is_set():
            try:
                request = self._orders.get(timeout=1.0)
            except queue.Empty:
                continue
            try:
                self._heard.put(self._ask(self._transport, request, self.stop))
            except GivenUpError:
                return
            except Exception as error:
                self._heard.put(error)
