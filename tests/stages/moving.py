"""Short films whose motion is known exactly, for the motion captions to be measured against."""

import subprocess
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from corpus.video import ffmpeg

Frames = NDArray[np.uint8]
FPS, COUNT = 16, 33
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
COLOURS = {
    "red": (210, 40, 40),
    "green": (40, 170, 60),
    "blue": (40, 70, 210),
    "yellow": (225, 205, 50),
    "white": (240, 240, 240),
    "black": (15, 15, 15),
}


@dataclass(frozen=True)
class Scene:
    """One film of two seconds.

    Attributes:
        kind: ``static``, ``pan``, ``zoom``, ``mover``, ``light`` or ``appear``.
        way: the true answer; two ways are joined by ``+``.
        height, width: pixels.
        speed: shares of the short side per second (zoom: natural logarithm per second).
        share: side of the mover, share of the short side.
        noise: standard deviation, grey levels.
        crf: x264 quality it is passed through once; 0 for none.
    """

    seed: int
    kind: str
    way: str = ""
    height: int = 120
    width: int = 160
    speed: float = 0.2
    share: float = 0.25
    colour: str = "red"
    noise: float = 0.0
    crf: int = 0

    def frames(self) -> Frames:
        """uint8 (33, H, W, 3) at 16 fps."""
        rng = np.random.default_rng(self.seed)
        film = np.stack(_FILMS[self.kind](self, rng))
        if self.noise:
            film = film + rng.normal(0, self.noise, film.shape)
        made = film.clip(0, 255).astype(np.uint8)
        return compressed(made, self.crf) if self.crf else made

    @property
    def short(self) -> int:
        return min(self.height, self.width)

    @property
    def step(self) -> NDArray[np.float64]:
        """Pixels per frame, right and down."""
        ways = np.array([WAYS[way] for way in self.way.split("+")], float).sum(axis=0)
        return ways / np.linalg.norm(ways) * self.speed * self.short / FPS


def texture(rng: np.random.Generator, height: int, width: int, grain: float) -> NDArray[np.float32]:
    """Soft noise of four scales, the finest of about ``4 grain`` pixels, in a colour of its own."""
    picture = np.zeros((height, width, 3), np.float32)
    for octave in range(4):
        cell = grain * 4 * 2.2**octave
        grid = rng.normal(
            0, 40 * 0.9**octave, (max(2, int(height / cell)), max(2, int(width / cell)), 3)
        )
        big = cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        picture += big
    return (picture + rng.uniform(60, 190, 3).astype(np.float32)).clip(0, 255)


def compressed(frames: Frames, crf: int) -> Frames:
    """The same film after x264 at some quality."""
    count, height, width, _ = frames.shape
    size = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(FPS)]
    coder = ["-c:v", "libx264", "-threads", "1", "-preset", "veryfast", "-crf", str(crf)]
    encoded = _ffmpeg(
        [*size, "-i", "-", *coder, "-pix_fmt", "yuv420p", "-f", "matroska", "-"], frames
    )
    decoded = _ffmpeg(["-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], encoded)
    return np.frombuffer(decoded, np.uint8).reshape(count, height, width, 3)


def _ffmpeg(arguments: list[str], data: "Frames | bytes") -> bytes:
    given = data if isinstance(data, bytes) else data.tobytes()
    command = [str(ffmpeg()), "-v", "error", *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def _ground(scene: Scene, rng: np.random.Generator) -> NDArray[np.float32]:
    return texture(rng, scene.height, scene.width, max(1, scene.short / 64))


def _static(scene: Scene, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    return [_ground(scene, rng)] * COUNT


def _moments() -> NDArray[np.float64]:
    return np.arange(COUNT) - (COUNT - 1) / 2


def _view(big: NDArray[np.float32], matrix: list[list[float]], scene: Scene) -> NDArray[np.float32]:
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(big, np.array(matrix, np.float32), (scene.width, scene.height), flags=how)


def _pan(scene: Scene, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    margin = int(np.abs(scene.step).max() * COUNT) + 4
    grain = max(1, scene.short / 64)
    big = texture(rng, scene.height + 2 * margin, scene.width + 2 * margin, grain)
    places = [margin + scene.step * t for t in _moments()]
    return [_view(big, [[1, 0, x], [0, 1, y]], scene) for x, y in places]


def _zoom(scene: Scene, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    h, w = scene.height, scene.width
    big = texture(rng, 2 * h, 2 * w, max(1, scene.short / 64))
    sign = -1 if scene.way == "in" else 1
    scales = np.exp(sign * scene.speed * _moments() / FPS)
    return [_view(big, [[s, 0, w - s * w / 2], [0, s, h - s * h / 2]], scene) for s in scales]


def _mover(scene: Scene, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """A square or disc of faint texture crosses the middle of the picture."""
    ground = _ground(scene, rng)
    side = max(3, round(scene.share * scene.short))
    grain = (texture(rng, side, side, max(1, side / 16)) - 128) * 0.25
    patch = (np.array(COLOURS[scene.colour], np.float32) + grain).clip(0, 255)
    mask = np.ones((side, side), np.float32)
    if rng.random() < 0.5:
        mask[:] = 0
        cv2.circle(mask, (side // 2, side // 2), side // 2, 1, -1)
    middle = rng.uniform(0.4, 0.6, 2) * (scene.width, scene.height)
    size = (scene.width, scene.height)
    film = []
    for t in _moments():
        x, y = middle + scene.step * t - side / 2
        matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
        cover = cv2.warpAffine(mask, matrix, size)[..., None]
        film.append(ground * (1 - cover) + cv2.warpAffine(patch, matrix, size) * cover)
    return film


def _light(scene: Scene, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    ground = _ground(scene, rng) * 0.6 + 40
    sign = 1 if scene.way == "brighter" else -1
    return [ground + sign * scene.speed * 60 * t / (COUNT - 1) for t in _moments()]


def _appear(scene: Scene, rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """A plain square stands there in one part of the film and not in the other."""
    ground = _ground(scene, rng)
    side = int(scene.share * scene.short)
    x, y = (rng.uniform(0.1, 0.9, 2) * (scene.width - side, scene.height - side)).astype(int)
    covered = ground.copy()
    covered[y : y + side, x : x + side] = COLOURS[scene.colour]
    turn = int(rng.integers(COUNT // 3, 2 * COUNT // 3))
    first, last = (ground, covered) if scene.way == "appears" else (covered, ground)
    return [first if i < turn else last for i in range(COUNT)]


_FILMS = {
    "static": _static,
    "pan": _pan,
    "zoom": _zoom,
    "mover": _mover,
    "light": _light,
    "appear": _appear,
}
