"""HTML pages: everything in them is escaped, and they load nothing from anywhere."""

import base64
from pathlib import Path

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
# What a browser lets a page do, should something foreign get past the escaping after all.
SECURITY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def environment() -> jinja2.Environment:
    """Templates with everything escaped; an unknown name is an error.

    Pages put the global ``security`` into their head.
    """
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["security"] = Markup(  # noqa: S704 - a constant of ours
        f'<meta http-equiv="Content-Security-Policy" content="{SECURITY}">'
    )
    return made


def data_uri(data: bytes, mime: str) -> str:
    """A picture or film as a link that holds it."""
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
