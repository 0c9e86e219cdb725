"""The frames of questions as pictures: one sheet per question, and every frame by itself."""

from pathlib import Path

from PIL import Image, ImageDraw

from pipeline.prompting.trying import Trial
from stages.captioning.backend import Shown

WIDTH, GAP, LABEL, COLUMNS = 240, 6, 16, 6
PAPER, INK = (255, 255, 255), (30, 30, 30)


def write_sheets(trial: Trial, folder: Path) -> list[Path]:
    """Write ``01-clip-0s.png`` and ``01-clip-0s/shown-0.000s.png`` for every question.

    The sheet has the frames of the segment before first, each with its time below.
    """
    written = []
    for number, one in enumerate(trial.asked, 1):
        request = one.request
        name = f"{number:02d}-{request.kind}-{request.start:g}s"
        folder.joinpath(name).mkdir(parents=True, exist_ok=True)
        for part, shown in (("before", request.before), ("shown", request.shown)):
            for frame, time in zip(shown.frames, shown.times, strict=True):
                Image.fromarray(frame).save(folder / name / f"{part}-{time:07.3f}s.png")
        sheet(request.before, request.shown).save(folder / f"{name}.png")
        written.append(folder / f"{name}.png")
    return written


def sheet(before: Shown, shown: Shown) -> Image.Image:
    """A contact sheet with times."""
    cells = [
        (frame, f"{label}{time:.2f} s")
        for label, one in (("before: ", before), ("", shown))
        for frame, time in zip(one.frames, one.times, strict=True)
    ]
    height, width = shown.frames.shape[1:3]
    size = WIDTH, max(1, round(WIDTH * height / width))
    rows = -(-len(cells) // COLUMNS)
    paper = Image.new(
        "RGB", (GAP + COLUMNS * (WIDTH + GAP), GAP + rows * (size[1] + LABEL + GAP)), PAPER
    )
    pen = ImageDraw.Draw(paper)
    for number, (frame, label) in enumerate(cells):
        row, column = divmod(number, COLUMNS)
        place = GAP + column * (WIDTH + GAP), GAP + row * (size[1] + LABEL + GAP)
        paper.paste(Image.fromarray(frame).resize(size), place)
        pen.text((place[0], place[1] + size[1] + 2), label, fill=INK)
    return paper
