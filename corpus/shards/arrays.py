"""Arrays as npy members, and back without trusting a byte of them.

A reader knows dtype and shape from the json of the sample or from the index, and gets those or an
error: nothing is unpickled, and nothing is allocated that a header asks for.
"""

import io

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

FLOAT16, BFLOAT16 = "float16", "bfloat16"
# By the name in the json, how an array lies in the npy. numpy has no bfloat16: its bits are stored.
STORED = {
    BFLOAT16: np.dtype("<u2"),
    **{
        name: np.dtype(name).newbyteorder("<")
        for name in (FLOAT16, "float32", "uint8", "uint16", "int16", "int32", "int64")
    },
}
LATENT_DTYPES = (FLOAT16, BFLOAT16)
_HEADER_LIMIT = 512
_MOST_AXES = 8


def rounded(values: NDArray[np.floating], dtype: str) -> NDArray[np.generic]:
    """Floats as they are stored: ``float16``, or the upper halves of float32 for ``bfloat16``,
    each rounded to the nearest, ties to even."""
    if dtype == FLOAT16:
        with np.errstate(over="ignore"):  # the caller looks whether all is finite
            return values.astype(np.float16)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    upper = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), np.uint16(0x7FC0), upper.astype(np.uint16))


def widened(stored: NDArray[np.generic], dtype: str) -> NDArray[np.generic]:
    """Stored values as numbers: float32 for the two floats of 16 bits, else as they are."""
    if dtype == BFLOAT16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32) if dtype == FLOAT16 else stored


def to_npy(array: NDArray[np.generic]) -> bytes:
    """The member of an array."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def from_npy(data: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """A member's stored values, checked against what it must be before anything is read.

    Raises:
        ValueError: another dtype or shape, more or fewer bytes than they need, an object array
            (never unpickled), a header that is none.
    """
    if dtype not in STORED:
        raise ValueError(f"{dtype!r} is none of the dtypes {', '.join(STORED)}")
    if len(shape) > _MOST_AXES or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"{shape!r} is no shape")
    stored, count = STORED[dtype], 1
    for length in shape:
        count *= length
    size = count * stored.itemsize
    if not size < len(data) <= size + _HEADER_LIMIT:
        raise ValueError(f"{len(data)} bytes cannot be {dtype} {shape}")
    file = io.BytesIO(data)
    found, fortran, descr = _header(file)
    if descr != stored or fortran or tuple(found) != tuple(shape):
        raise ValueError(f"expected {dtype} {shape}, found {descr} {tuple(found)}")
    if len(data) - file.tell() != size:
        raise ValueError(f"{len(data) - file.tell()} bytes of values cannot be {dtype} {shape}")
    return np.frombuffer(data, stored, count, file.tell()).reshape(shape)


def _header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and dtype that the header tells; ValueError if it is none. numpy reads it as a
    literal of Python, so it is short (`from_npy`)."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        version = npy.read_magic(file)
        if version not in readers:
            raise ValueError(f"npy version {version} is not read")
        return readers[version](file)
    except (SyntaxError, TypeError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"the npy header cannot be read: {error}") from error
