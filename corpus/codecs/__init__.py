"""Latent codecs behind one interface (`corpus.codecs.base.Codec`)."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from corpus.codecs.base import Codec, CodecInfo, OutOfMemory, psnr
from corpus.codecs.cosmos import cosmos
from corpus.codecs.dct import DctCodec
from corpus.codecs.fitness import check_fits, prove
from corpus.codecs.pca import PcaCodec
from corpus.codecs.vae import VaeCodec
from corpus.codecs.wan import WanCodec
from corpus.codecs.weights import DEVICE, ENVIRONMENT, Runtime
from corpus.errors import UserError

# By name: the machine's affairs and the codec's settings to a codec.
BUILDERS: dict[str, Callable[..., Codec]] = {
    "dct": lambda runtime, **settings: DctCodec(**settings),
    "pca": PcaCodec,
    "wan": WanCodec,
    "cosmos": cosmos,
    "diffusers": VaeCodec,
}
WEIGHTLESS = ("dct",)
_NO_SETTING = re.compile(r"unexpected keyword argument '(\w+)'")

__all__ = [
    "Codec",
    "CodecInfo",
    "DctCodec",
    "OutOfMemory",
    "Runtime",
    "build",
    "check_fits",
    "described",
    "from_description",
    "make",
    "prove",
    "psnr",
]


def build(
    name: str,
    *,
    weights: str | None = None,
    device: str = "cpu",
    allow_torchscript: bool = False,
    **settings: Any,
) -> Codec:
    """A codec by name, with its own settings; its weights are found and named, not loaded.

    Args:
        weights, device, allow_torchscript: see `corpus.codecs.weights.Runtime`.

    Raises:
        UserError: an unknown name, bad settings, or weights that are not on this machine.
    """
    return make(name, Runtime(weights, device, allow_torchscript), settings)


def from_description(
    description: Mapping[str, Any],
    weights: str | None = None,
    device: str | None = None,
    allow_torchscript: bool = False,
) -> Codec:
    """The codec that a sample or manifest describes; refused when this build differs from it.

    Weights are looked for where ``weights`` says, else where the environment does
    (`corpus.codecs.weights.ENVIRONMENT`), else in the cache of the hub; it computes where
    ``device`` says, else where the environment does (`DEVICE`), else on the CPU.
    """
    info = _parsed(description)
    device = device or os.environ.get(DEVICE) or "cpu"
    codec = make(info.id, Runtime(weights, device, allow_torchscript), info.settings)
    mine, theirs = codec.info.to_json(), info.to_json()
    different = sorted(name for name in mine if mine[name] != theirs[name])
    if different:
        way = (
            "use the tool version that wrote them"
            if info.id in WEIGHTLESS
            else f"name the weights of revision {info.revision} ({ENVIRONMENT}=FOLDER)"
        )
        raise UserError(
            f"codec {info.id}: the latents were made with another {', '.join(different)}; {way}"
        )
    return codec


def described(description: Mapping[str, Any]) -> CodecInfo:
    """What a description says, where latents are only read: no weights are needed for that.

    Raises:
        UserError: it describes none of our codecs, or `dct` as this build does not know it.
    """
    info = _parsed(description)
    return from_description(description).info if info.id in WEIGHTLESS else info


def _parsed(description: Mapping[str, Any]) -> CodecInfo:
    try:
        info = CodecInfo.from_json(dict(description))
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"this describes no codec: {error!r}") from error
    _known(info.id)
    return info


def make(name: str, runtime: Runtime, settings: Mapping[str, Any]) -> Codec:
    """`build`, for settings that somebody else wrote."""
    _known(name)
    if name in WEIGHTLESS and runtime.weights is not None:
        raise UserError(f"codec {name} has no weights: leave out {runtime.weights}")
    try:
        return BUILDERS[name](runtime.here(), **settings)
    except (TypeError, ValueError) as error:
        odd = _NO_SETTING.search(str(error))
        said = f"has no setting {odd[1]}: take it out of latents.settings" if odd else str(error)
        raise UserError(f"codec {name}: {said}") from error


def _known(name: str) -> None:
    if not isinstance(name, str) or name not in BUILDERS:
        raise UserError(f"codec {name!r} is unknown: choose one of {', '.join(sorted(BUILDERS))}")
