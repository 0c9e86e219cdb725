"""A quality classifier: logistic regression on the scores of a caption, as a JSON file.

``tv2tv classifier fit`` makes one from labels; the stage verdicts reads it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from corpus.errors import UserError
from corpus.ids import content_id

SCHEMA = 1
QUALITY = "quality"  # the name of its score


@dataclass(frozen=True)
class Classifier:
    """Probability that a person accepts a caption: a sigmoid of a weighted sum.

    Attributes:
        features: names of scores.
        mean, scale: by which each is standardised.
        weights: of the standardised scores.
    """

    features: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def score(self, scores: Mapping[str, float]) -> float | None:
        """0 to 1; None where a score that it reads is missing or no number."""
        found = [scores.get(name, math.nan) for name in self.features]
        parts = zip(found, self.mean, self.scale, self.weights, strict=True)
        total = self.bias + math.fsum(w * (value - mean) / scale for value, mean, scale, w in parts)
        if not math.isfinite(total):
            return None
        return 1 / (1 + math.exp(-total)) if total > -700 else 0.0

    @property
    def revision(self) -> str:
        """Its name by content."""
        return content_id("classifier", SCHEMA, self.to_json())

    def to_json(self) -> dict[str, Any]:
        parts = zip(self.features, self.mean, self.scale, self.weights, strict=True)
        return {
            "schema": SCHEMA,
            "bias": self.bias,
            "features": [
                {"score": name, "mean": mean, "scale": scale, "weight": weight}
                for name, mean, scale, weight in parts
            ],
        }


def read_classifier(path: Path) -> Classifier:
    """Read a file that `Classifier.to_json` went into; other keys may stand beside.

    Raises:
        UserError: no such file, or another content.
    """
    try:
        held = json.loads(path.expanduser().read_text(encoding="utf-8"))
        if held["schema"] != SCHEMA:
            raise ValueError(f"its schema is {held['schema']}, this version reads {SCHEMA}")
        rows = held["features"]
        columns = {
            name: tuple(float(row[name]) for row in rows) for name in ("mean", "scale", "weight")
        }
        numbers = [*columns["mean"], *columns["scale"], *columns["weight"], float(held["bias"])]
        if not rows or not all(map(math.isfinite, numbers)) or min(columns["scale"]) <= 0:
            raise ValueError("it has no features, or numbers that cannot be")
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"verdicts: classifier={path} is no quality classifier ({error}): name a file that "
            "`tv2tv classifier fit` wrote"
        ) from error
    names = tuple(str(row["score"]) for row in rows)
    return Classifier(
        names, columns["mean"], columns["scale"], columns["weight"], float(held["bias"])
    )
