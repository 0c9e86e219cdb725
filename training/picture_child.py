"""Read a picture of a person's choosing; the child process of `training.picture`.

It limits itself before it touches a byte of the picture. It imports nothing of ours and runs by
path.

Usage: picture_child.py FILE KINDS SIZES SECONDS BYTES, where KINDS are PIL's formats, SIZES are
``WxH`` and both are separated by commas. Writes ``WxH`` of the size whose shape is nearest, a line
feed, and the RGB bytes of the picture cut to it. Exit status 3: no such picture, stderr says why.
"""

import contextlib
import math
import resource
import sys

UNREADABLE = 3


def limit(seconds: int, memory: int) -> None:
    """CPU seconds and bytes of address space; less where less was handed down to us."""
    wanted = {resource.RLIMIT_CPU: seconds, resource.RLIMIT_AS: memory, resource.RLIMIT_CORE: 0}
    for what, most in wanted.items():
        with contextlib.suppress(ValueError, OSError):  # not every system knows every limit
            resource.setrlimit(what, (most, most))


def fitted(path: str, kinds: list[str], sizes: list[tuple[int, int]]) -> tuple[str, bytes]:
    """Name of the size that the picture is cut to, and its bytes."""
    from PIL import Image, ImageOps

    with Image.open(path, formats=kinds) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    shape = math.log(picture.width / picture.height)
    width, height = min(sizes, key=lambda size: abs(math.log(size[0] / size[1]) - shape))
    cut = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
    return f"{width}x{height}", cut.tobytes()


def main(path: str, kinds: str, sizes: str, seconds: str, memory: str) -> int:
    limit(int(seconds), int(memory))
    wanted = [(int(w), int(h)) for w, h in (size.split("x") for size in sizes.split(","))]
    try:
        name, data = fitted(path, kinds.split(","), wanted)
    except (Exception, MemoryError) as error:  # whatever PIL raises, it was the picture's fault
        sys.stderr.write(f"{type(error).__name__}: {error}")
        return UNREADABLE
    sys.stdout.buffer.write(name.encode() + b"\n" + data)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
