"""Trying a prompt: the very questions that a run would ask about a clip, and their answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from corpus.errors import UserError
from pipeline.prompting.clip import Chosen
from stages.captioning.backend import (
    OK,
    Away,
    CaptionAnswer,
    CaptionBackend,
    CaptionRequest,
    DirectBackend,
    Shown,
)
from stages.captioning.settings import BACKENDS, CaptionsConfig
from stages.captioning.worded import Moving, Still, WordedConfig, pieces
from stages.captions import CaptionsStage

PATIENCE = 20.0  # seconds with a server that is busy or away: somebody sits there
STANDS_FOR = "(the caption of {start:g} s to {end:g} s)"


@dataclass(frozen=True)
class Asked:
    """One question and what came of it.

    Attributes:
        reason: why the answer is no caption; None where it is one.
        again: whether it is a second try.
    """

    request: CaptionRequest
    answer: CaptionAnswer
    reason: str | None
    again: bool


@dataclass(frozen=True)
class Trial:
    """All questions about a clip, in the order of their answers.

    Attributes:
        show: how frames are sent: as ``video`` or ``images``.
        dry: nothing was asked, answers are stand-ins.
    """

    asked: tuple[Asked, ...]
    prompt: str
    show: str
    dry: bool


def try_prompt(prompt: str, chosen: Chosen, *, dry: bool = False) -> Trial:
    """Ask a recipe's backend about a clip as the captions stage does, canaries left out.

    Args:
        prompt: name or path; takes the place of the recipe's.
        dry: make the questions only.

    Raises:
        UserError: the prompt cannot be read, the recipe's backend is not asked in words, or its
            server is away (for `PATIENCE`).
    """
    section: CaptionsConfig = chosen.recipe.captions  # type: ignore[attr-defined]
    patience = min(section.server.patience, PATIENCE)
    server = section.server.model_copy(update={"patience": patience})
    config = section.model_copy(update={"prompt": prompt, "canaries": 0.0, "server": server})
    stage = _Watched(config, chosen.context, _DryBackend(_worded(config)) if dry else None)
    if stage.prompt is None:
        raise UserError(
            f"captions.backend is {config.backend}, which is not asked in words: choose one with "
            "--set captions.backend=vllm or =server, or see the questions alone with --dry"
        )
    try:
        stage.open()
        stage.process([stage.seen(chosen.record)])
    except Away as error:
        raise UserError(f"{error}: start it, or name another one") from error
    finally:
        stage.backend.close()
    show = getattr(getattr(config, config.backend, None), "show", WordedConfig().show)
    return Trial(tuple(stage.asked), stage.prompt.name, show, dry)


class _Watched(CaptionsStage):
    """Keeps what it hears."""

    def __init__(self, *arguments: Any) -> None:
        self.asked: list[Asked] = []
        super().__init__(*arguments)

    def heard(self, request: CaptionRequest, answer: CaptionAnswer, reason: str | None) -> None:
        super().heard(request, answer, reason)
        again = request.sampling == self.backend.again
        self.asked.append(Asked(request, answer, reason, again))


class _DryBackend(DirectBackend):
    """Answers with stand-ins, so that every question can be made."""

    prompt = None

    def __init__(self, like: CaptionBackend | None) -> None:
        super().__init__()
        self.model = like.model if like else "(no model)"
        self.view = like.view if like else WordedConfig().view()
        self.sampling = like.sampling if like else WordedConfig().decoding.model_dump()

    def reply(self, request: CaptionRequest) -> CaptionAnswer:
        return request.answer(OK, STANDS_FOR.format(start=request.start, end=request.end))


def _worded(config: CaptionsConfig) -> CaptionBackend | None:
    """The recipe's backend, if it is asked in words."""
    backend = BACKENDS[config.backend](config)
    return backend if backend.prompt is None else None


# -- as data and for people -----------------------------------------------------------------------


def to_json(trial: Trial) -> dict[str, Any]:
    return {
        "prompt": trial.prompt,
        "dry": trial.dry,
        "questions": [_question(one, trial) for one in trial.asked],
    }


def _question(one: Asked, trial: Trial) -> dict[str, Any]:
    request = one.request
    found = {
        "kind": request.kind,
        "start": request.start,
        "end": request.end,
        "again": one.again,
        "previous": request.previous,
        "before": _frames(request.before),
        "shown": _frames(request.shown),
        "content": content(request, trial.show),
        "schema": request.schema,
        "model": request.model,
        "sampling": request.sampling,
        "binding": request.id,
    }
    if trial.dry:
        return found
    detail = one.answer.detail
    answer = {
        "status": one.answer.status,
        "reason": one.reason,
        "text": one.answer.text,
        "message": one.answer.message,
        "tokens_in": detail.tokens_in,
        "tokens_out": detail.tokens_out,
        "seconds": detail.seconds,
        "cost": detail.cost,
    }
    return {**found, "answer": answer}


def content(request: CaptionRequest, show: str) -> list[str]:
    """The user's message in order; pictures as words in angle brackets."""
    return [_piece(piece) for piece in pieces(request, show)]


def _piece(piece: Any) -> str:
    if isinstance(piece, Moving):
        count, height, width = piece.frames.shape[:3]
        return f"<video: {count} frames of {width}x{height} at {piece.fps:g} per second>"
    if isinstance(piece, Still):
        height, width = piece.frame.shape[:2]
        return f"<picture of {width}x{height}>"
    return str(piece)


def _frames(shown: Shown) -> dict[str, Any]:
    height, width = shown.frames.shape[1:3]
    return {"times": list(shown.times), "width": width, "height": height}


def told(trial: Trial) -> list[str]:
    """Lines for a terminal."""
    lines = []
    for number, one in enumerate(trial.asked, 1):
        lines += _told(number, one, trial)
    return lines


def _told(number: int, one: Asked, trial: Trial) -> list[str]:
    request = one.request
    lines = [
        f"--- {number}: {request.kind}, {request.start:g} s to {request.end:g} s, "
        f"prompt {trial.prompt}{', second try' if one.again else ''}",
    ]
    for name, shown in (("before", request.before), ("shown", request.shown)):
        if shown.times:
            height, width = shown.frames.shape[1:3]
            size = f"{len(shown.times)} frames of {width}x{height}"
            lines.append(f"{name + ':':<10}{size} at {_times(shown.times)} s")
    lines += ["user:", *_indented("".join(content(request, trial.show)))]
    lines += [
        f"schema:   {request.schema}",
        f"model:    {request.model}",
        f"sampling: {request.sampling}",
        f"binding:  {request.id}",
    ]
    if trial.dry:
        return [*lines, ""]
    answer, detail = one.answer, one.answer.detail
    took = f"{detail.tokens_in} tokens in, {detail.tokens_out} out, {detail.seconds:.2f} s"
    why = f" ({answer.message})" if answer.message else ""
    verdict = "ok" if one.reason is None else f"rejected: {one.reason}{why}"
    return [*lines, f"answer:   {verdict}; {took}", *_indented(answer.text), ""]


def _times(times: Sequence[float]) -> str:
    return " ".join(f"{time:g}" for time in times)


def _indented(text: str) -> list[str]:
    return [f"  | {line}" for line in text.splitlines()]
