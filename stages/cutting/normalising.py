"""Normalising: how decoded pictures get the size, the shape and the colours of a clip."""

import math
from collections.abc import Sequence

from corpus.video import BT709, Encoding
from stages.stage import Record

AREA_FROM = 0.5  # scale from which down a mean over the area is taken
_HDR_CURVES = {"pq": "smpte2084", "hlg": "arib-std-b67"}
_SPACES = {"bt601": "bt470bg", "bt2020": "bt2020ncl"}  # matrices as the filter colorspace has them


def bucket(width: int, height: int, buckets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size bucket whose shape is nearest; of several, the one whose size is."""
    shape, area = math.log(width / height), math.log(width * height)
    return min(
        buckets,
        key=lambda b: (abs(math.log(b[0] / b[1]) - shape), abs(math.log(b[0] * b[1]) - area)),
    )


def filters(record: Record, width: int, height: int, encoding: Encoding) -> str:
    """ffmpeg's filter chain from decoded upright pictures to what `piped` says, of that size.

    Pixels become square and the picture covers the size, then its centre is cropped. HDR is scaled
    first, since mapping it is the dearest step: BT.2408's reference white, 203 cd/m2, is white.
    """
    cover = max(width / record["width"], height / record["height"])
    w, h = max(width, round(record["width"] * cover)), max(height, round(record["height"] * cover))
    # Where many pixels become one, their mean is as good as a longer filter, and much cheaper.
    kind = "area" if cover <= AREA_FROM else "bicubic"
    scaled, crop = f"scale={w}:{h}:flags={kind}+accurate_rnd", f"crop={width}:{height}"
    curve, matrix = _HDR_CURVES.get(record["transfer"]), record["matrix"]
    if curve is not None:
        scaled += ",format=yuv444p10le"  # zscale refuses subsampled pictures of odd size
        linear = f"zscale=tin={curve}:pin=2020:min=2020_ncl:t=linear:npl=203,format=gbrpf32le"
        sdr = "zscale=p=709,tonemap=mobius:desat=0,zscale=t=709:p=709:m=gbr:r=full,format=gbrp"
        scaled, matrix = f"{scaled},{linear},{sdr}", "rgb"
    colours = _to_yuv(matrix, crop) if encoding == "yuv420p" else _to_rgb(matrix, crop)
    return scaled + colours


def _to_yuv(matrix: str, crop: str) -> str:
    """The rest of a chain after ``scale=...``, to BT.709 in limited range, without a way by RGB."""
    if matrix == "rgb":
        return f",{crop},scale=flags=accurate_rnd+full_chroma_int:{BT709},format=yuv420p"
    limited = f":in_color_matrix={matrix}:out_color_matrix={matrix}:out_range=tv,format=yuv420p"
    if matrix == "bt709":
        return f"{limited},{crop}"
    # swscale goes by RGB from one matrix to another, at many times the cost.
    other = f"ispace={_SPACES[matrix]}:iprimaries=bt709:itrc=bt709:irange=tv"
    return f"{limited},{crop},colorspace={other}:all=bt709:range=tv:format=yuv420p:fast=1"


def _to_rgb(matrix: str, crop: str) -> str:
    """The same, to RGB; in two steps, since swscale is slow from subsampled chroma to RGB."""
    if matrix == "rgb":
        return f",format=rgb24,{crop}"
    between = f":in_color_matrix={matrix}:out_color_matrix={matrix},format=yuv444p"
    rgb = f"scale=flags=accurate_rnd+full_chroma_int:in_color_matrix={matrix},format=rgb24"
    return f"{between},{rgb},{crop}"
