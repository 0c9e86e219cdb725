"""URIs and globs as inputs name them: what is remote, what may be shown, what a pattern fits."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from fsspec.utils import glob_translate

from corpus.store import is_file_uri

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRET = re.compile(
    r"x-amz-.*|x-goog-.*|signature|expires|key-pair-id|policy|awsaccesskeyid|googleaccessid"
    r"|sig|se|sp|sv|sr|st|spr|ske|sks|skt|skv|skoid|sktid|token|access_token|auth",
    re.IGNORECASE,
)


def stored(uri: str) -> str:
    """A URI as it may be stored and shown: without user, password and signature."""
    if not is_remote(uri):
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:  # it is no URI, and will be refused
        scheme, _, rest = uri.partition("?")[0].partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"
    plain = [
        pair for pair in parts.query.split("&") if not _SECRET.fullmatch(pair.partition("=")[0])
    ]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="&".join(plain)))


def is_remote(uri: str) -> bool:
    return _SCHEME.match(uri) is not None and not is_file_uri(uri)


def is_glob(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def split_glob(text: str) -> tuple[str, str]:
    """A path or URI with a glob: the folder that holds all it can name, and the pattern below."""
    parts = text.split("/")
    first = next(index for index, part in enumerate(parts) if is_glob(part))
    return "/".join(parts[:first]) or ("/" if text.startswith("/") else "."), "/".join(
        parts[first:]
    )


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a relative name fits a glob: ``*`` and ``?`` within a folder, ``**`` across them."""
    fits = re.compile(glob_translate(pattern)).match
    return lambda name: fits(name) is not None
