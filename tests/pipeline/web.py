"""A web server of our own that says what a test tells it to, on the loopback address."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = Callable[[BaseHTTPRequestHandler], None]


class Web:
    """
    Attributes:
        replies: by path.
        asked: (path, headers) of every request.
    """

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def file(self, path: str, data: bytes, etag: str | None = None, said: int | None = None) -> str:
        """Serve bytes; ``said`` lies about how many. Returns the URL."""

        def reply(handler: BaseHTTPRequestHandler) -> None:
            if etag is not None and handler.headers.get("If-None-Match") == etag:
                handler.send_response(304)
                handler.end_headers()
                return
            handler.send_response(200)
            if said != -1:
                handler.send_header("Content-Length", str(len(data) if said is None else said))
            if etag is not None:
                handler.send_header("ETag", etag)
            handler.end_headers()
            handler.wfile.write(data)

        self.replies[path] = reply
        return self.url(path)

    def status(self, path: str, code: int, location: str | None = None) -> str:
        def reply(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(code)
            if location is not None:
                handler.send_header("Location", location)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.replies[path] = reply
        return self.url(path)

    def times(self, path: str) -> int:
        """How often a path was asked for."""
        return [asked for asked, _ in self.asked].count(path)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: who is cut off is meant to be."""


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.asked.append((self.path, dict(self.headers)))
            web.replies.get(self.path, lambda handler: handler.send_error(404))(self)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with Server(("127.0.0.1", 0), Handler) as server:
        web.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield web
        server.shutdown()
