"""How much of a clip's picture is text: subtitles, slides, credits, burned-in times.

A text detector (PP-OCR, by rapidocr, whose wheel brings the model along) draws boxes around lines
of text; the score is the share of the picture inside them. What the text says is not read.
"""

import importlib.util
from importlib.metadata import version
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from corpus.errors import UserError
from stages.measures.pixels import spread
from stages.reading.pictures import Frames

VERSION = "1"
NEEDED = ("rapidocr", "onnxruntime")
LINE = 736  # short side that the detector was trained on; smaller pictures are enlarged to half
SURE = 0.6  # likelihood of a box, below which textures are taken for text
THREADS = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}


class Text:
    """Score ``text`` of clips, 0 to 1.

    Args:
        frames: of each clip that are searched, evenly spread.

    Raises:
        UserError: the extra ``ocr`` is not installed.
    """

    def __init__(self, frames: int) -> None:
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"quality: text needs {' and '.join(missing)}: `pip install 'tv2tv[ocr]'`, or "
                "take text from quality.use"
            )
        self._frames = frames

    def identity(self) -> dict[str, Any]:
        """The wheel is the model: its version names both."""
        return {
            "version": VERSION,
            "frames": self._frames,
            **{name: version(name) for name in NEEDED},
        }

    def open(self) -> None:
        from rapidocr import RapidOCR

        options: dict[str, Any] = {f"EngineConfig.onnxruntime.{k}": n for k, n in THREADS.items()}
        options |= {
            "Global.log_level": "error",
            "Global.use_cls": False,
            "Global.use_rec": False,
            "Det.limit_type": "min",
            "Det.limit_side_len": LINE // 2,
        }
        self._engine: Any = RapidOCR(params=options)

    def score(self, frames: Frames) -> float:
        """Share of the picture (T, H, W, 3) that is text, median over some of its frames."""
        shown = frames[spread(len(frames), self._frames)]
        return float(np.median([self._area(frame) for frame in shown]))

    def _area(self, frame: NDArray[np.uint8]) -> float:
        found = self._engine(
            cv2.cvtColor(frame, cv2.COLOR_RGB2BGR),
            use_det=True,
            use_cls=False,
            use_rec=False,
            box_thresh=SURE,
        )
        if found.boxes is None:
            return 0.0
        covered = np.zeros(frame.shape[:2], np.uint8)  # boxes may lie upon each other
        for box in found.boxes:
            cv2.fillPoly(covered, [np.round(box).astype(np.int32)], 1)
        return float(covered.mean())
