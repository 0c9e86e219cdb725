"""Generation: text and video by turns, with words put in at any moment."""

from training.generate.events import Film, Prompt, Slot
from training.generate.session import Session, Sessions, Settings

__all__ = ["Film", "Prompt", "Session", "Sessions", "Settings", "Slot"]
