"""A server of the OpenAI chat protocol that does as it is told, mostly wrong."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def words(self) -> str:
        """All that was said in words."""
        content = self.body["messages"][0]["content"]
        return "".join(part["text"] for part in content if part["type"] == "text")


Misbehave = Callable[["Fake", "Answering", Asked], None]


@dataclass
class Fake:
    """
    Attributes:
        address: of the protocol's root.
        behave: answers questions.
        asked: all requests so far, in order of arrival.
        most: how many were under way at once, at most.
    """

    behave: Misbehave
    address: str = ""
    models: Any = ("fake",)
    asked: list[Asked] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def questions(self) -> list[Asked]:
        return [one for one in self.asked if one.method == "POST"]


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: Fake

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        asked = self._arrived(None)
        if callable(self.fake.models):
            self.fake.models(self.fake, self, asked)
        else:
            self.say(200, {"data": [{"id": name} for name in self.fake.models]})

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        asked = self._arrived(json.loads(self.rfile.read(length)))
        with self.fake.lock:
            self.fake.under_way += 1
            self.fake.most = max(self.fake.most, self.fake.under_way)
        try:
            self.fake.behave(self.fake, self, asked)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with self.fake.lock:
                self.fake.under_way -= 1

    def _arrived(self, body: Any) -> Asked:
        asked = Asked(self.command, self.path, dict(self.headers), body)
        with self.fake.lock:
            self.fake.asked.append(asked)
        return asked

    def say(self, code: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        for name, told in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, told)
        self.end_headers()
        self.wfile.write(data)

    def drop(self) -> None:
        """Hang up without a word."""
        self.close_connection = True
        self.connection.close()


def envelope(asked: Asked, text: str | None, end: str = "stop", **more: Any) -> dict[str, Any]:
    """A good answer, with the question's id as vLLM gives it back."""
    return {
        "id": f"chatcmpl-{asked.headers.get('X-Request-Id', 'none')}",
        "choices": [{"message": {"content": text}, "finish_reason": end, **more}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20},
    }


def caption(text: str) -> str:
    return json.dumps({"caption": text})


def good(fake: Fake, answering: Answering, asked: Asked) -> None:
    """Says back the question's last words, so that a text shows whose it is."""
    answering.say(200, envelope(asked, caption(f"about {asked.words.rsplit(':', 1)[-1].strip()}")))


@contextmanager
def serving(behave: Misbehave = good) -> Iterator[Fake]:
    """A fake at an address of its own; it ends with the block, whoever still waits."""
    fake = Fake(behave)
    handler = type("Handler", (Answering,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    fake.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        fake.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
