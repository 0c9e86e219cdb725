"""Latent codecs behind one interface (`corpus.codecs.base.Codec`)."""

from typing import Any

from corpus.codecs.base import Codec, CodecInfo, psnr
from corpus.codecs.dct import DctCodec
from corpus.errors import UserError

BUILDERS = {"dct": DctCodec}

__all__ = ["Codec", "CodecInfo", "DctCodec", "build", "from_description", "psnr"]


def build(name: str, **settings: Any) -> Codec:
    """A codec by name, with its own settings; UserError for unknown names or bad settings."""
    if name not in BUILDERS:
        raise UserError(f"codec {name!r} is unknown: choose one of {', '.join(sorted(BUILDERS))}")
    try:
        return BUILDERS[name](**settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"codec {name}: {error}") from error


def from_description(description: dict[str, Any]) -> Codec:
    """The codec that a sample or manifest describes; refused when this build differs from it."""
    codec = build(description["id"], **description.get("settings", {}))
    mine = codec.info.to_json()
    different = sorted(name for name in mine if mine[name] != description.get(name))
    if different:
        raise UserError(
            f"codec {description['id']}: the latents were made with another "
            f"{', '.join(different)}; use the tool version that wrote them"
        )
    return codec
