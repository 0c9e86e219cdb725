"""The page's HTTP interface, for the browser of the person who started it and for nobody else.

It listens on 127.0.0.1 only. Every address begins with a random token, so another program or web
page has to guess it. A foreign page that knew the port still could not come in by a name that
resolves to this machine (the Host must be ours) or post from elsewhere (so must the Origin, and
the body must be JSON, which no form sends). The page runs only our script and loads only from
here, by its content security policy. Clips are looked up by id, never by a path that is asked for.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from corpus.errors import UserError
from pipeline.review.desk import Desk, Refused, Stale
from pipeline.review.films import Films

PAGE = Path(__file__).with_name("page")
FILES = {
    "": ("index.html", "text/html"),
    "review.js": ("review.js", "text/javascript"),
    "review.css": ("review.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
HOST = "127.0.0.1"
MOST_BYTES = 256 * 1024  # of a request's body
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "media-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Server": "tv2tv",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Review:
    """The application around a desk.

    Attributes:
        token: what every address begins with.
    """

    def __init__(self, desk: Desk, films: Films, token: str | None = None) -> None:
        self.desk, self._films = desk, films
        self.token = token or secrets.token_urlsafe(32)
        self.port = 0
        self._files = {
            name: (PAGE.joinpath(file).read_bytes(), kind) for name, (file, kind) in FILES.items()
        }

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/{self.token}/"

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[str]:
        """Serve within the block; gives the address. Port 0 is any that is free.

        Raises:
            UserError: the port is taken.
        """
        runner = web.AppRunner(self._application(), access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await _start(runner, port)
            self.port = runner.addresses[0][1]
            yield self.url
        finally:
            await runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BYTES, middlewares=[self._guard])
        app.on_response_prepare.append(_secure)
        app.router.add_get(r"/{token}/{file:(review\.js|review\.css|icon\.svg)?}", self._file)
        app.router.add_get("/{token}/session", self._session)
        app.router.add_get("/{token}/clips/{clip}.mp4", self._clip)
        app.router.add_post("/{token}/labels", self._labels)
        return app

    # -- who may come in ------------------------------------------------------------------------

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refusals say nothing of the corpus; what a person did wrong comes back as JSON."""
        ours = {f"{name}:{self.port}" for name in (HOST, "localhost")}
        host = request.headers.get("Host", "")
        origin = request.headers.get("Origin")
        if host not in ours or origin not in (None, f"http://{host}"):
            return _told(403, "this address is for the page that tv2tv review printed")
        if not _from_here(request):
            return _told(403, "another page asked for this")
        token = request.match_info.get("token", "")
        if not secrets.compare_digest(token.encode("utf-8", "replace"), self.token.encode()):
            return _told(404, "nothing is here")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _told(error.status, error.reason)
        except Stale as error:
            return _told(409, str(error))
        except Refused as error:
            return _told(400, str(error))
        except (UserError, OSError) as error:
            return _told(500, str(error))

    # -- what there is --------------------------------------------------------------------------

    async def _file(self, request: web.Request) -> web.Response:
        body, kind = self._files[request.match_info["file"]]
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _session(self, request: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(self.desk.session))

    async def _clip(self, request: web.Request) -> web.StreamResponse:
        clip = self.desk.clips.get(request.match_info["clip"])
        if clip is None:
            return _told(404, "no such clip is under review")
        try:
            path = await asyncio.to_thread(self._films.path, clip)
        except (UserError, OSError) as error:
            return _told(404, str(error))
        return web.FileResponse(path, headers={"Content-Type": "video/mp4"})

    async def _labels(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _told(415, "labels come as application/json")
        try:
            data = json.loads(await request.read())
        except (ValueError, RecursionError) as error:
            raise Refused(f"the body is no JSON: {error}") from error
        return web.json_response(await asyncio.to_thread(self.desk.put, data))


def _from_here(request: web.Request) -> bool:
    """Whether a browser says that our page asked, or a person; a link elsewhere may lead here."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    link = request.method == "GET" and request.headers.get("Sec-Fetch-Dest") == "document"
    return site in ("none", "same-origin") or (link and request.match_info.get("file") == "")


async def _start(runner: web.AppRunner, port: int) -> None:
    try:
        await web.TCPSite(runner, HOST, port).start()
    except OSError as error:
        raise UserError(f"port {port} cannot be used ({error.strerror}): try --port 0") from error


async def _secure(request: web.BaseRequest, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _told(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
