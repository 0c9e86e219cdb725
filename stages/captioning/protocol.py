"""The OpenAI chat protocol: what a question and an answer look like on the wire."""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from corpus.errors import UserError
from stages.captioning.answers import normalised
from stages.captioning.backend import BindingError, CaptionRequest, Unusable
from stages.captioning.server_config import ServerConfig
from stages.captioning.transport import RefusedError, Reply
from stages.captioning.worded import Moving, Piece, Still, pieces

TOP = 20  # tokens whose probability is told: as many as the protocol allows
MOST_TOKENS = 2**31  # of one answer: a larger count is none
LEAST_SAID = 0.5  # probability of all choices together: below it the model would say something else
OURS = "tv2tv-"
_OURS = re.compile(rf"{OURS}[0-9a-f]{{32}}")


class MalformedError(Exception):
    """Not an answer of this protocol."""


@dataclass(frozen=True)
class Envelope:
    """An answer without its wrapping.

    Attributes:
        raw, end: what the model wrote, and why it stopped.
        tokens_in, tokens_out: as the server counts them.
        likely: probability of each of the choices, out of 1; empty where there are none, or where
            the model would say something else.
    """

    raw: str
    end: str
    tokens_in: int
    tokens_out: int
    likely: Mapping[str, float]


def name_of(request: CaptionRequest) -> str:
    """The id that goes out with a question."""
    return f"{OURS}{request.id}"


def body(request: CaptionRequest, config: ServerConfig) -> dict[str, Any]:
    """What is sent for a question, without its key."""
    shown = pieces(request, config.show)
    rates = {piece.fps for piece in shown if isinstance(piece, Moving)}
    if len(rates) > 1:  # the protocol tells one rate for all videos
        shown = pieces(request, "images")
    content = [_part(piece, config) for piece in shown]
    sent: dict[str, Any] = {
        "model": config.model,
        "messages": [{"role": "user", "content": content}],
        **_decoding(request.sampling, config.dialect),
    }
    if len(rates) == 1:
        sent["media_io_kwargs"] = {"video": {"fps": rates.pop(), "num_frames": -1}}
    if request.choices:
        sent |= {"logprobs": True, "top_logprobs": TOP, "temperature": 0}
        if config.dialect == "vllm":
            sent |= {"structured_outputs": {"choice": list(request.choices)}, "max_tokens": 1}
    elif request.schema:
        held = {"name": "caption", "schema": request.schema, "strict": True}
        sent["response_format"] = {"type": "json_schema", "json_schema": held}
    return sent


def _decoding(sampling: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    """Strict servers refuse what they do not know. A vLLM server takes what is not told from the
    model's own settings, which for some models draw from one token alone: all is told."""
    sent = {name: sampling[name] for name in ("temperature", "top_p", "seed")}
    if sampling["frequency_penalty"]:
        sent["frequency_penalty"] = sampling["frequency_penalty"]
    if dialect == "vllm":
        return {
            **sent,
            "repetition_penalty": sampling["repetition_penalty"],
            "top_k": 0,
            "min_p": 0.0,
            "max_tokens": sampling["max_tokens"],
        }
    return {**sent, "max_completion_tokens": sampling["max_tokens"]}


def _part(piece: Piece, config: ServerConfig) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    if isinstance(piece, Still):
        data = _encoded(piece.frame, config)
        return {
            "type": "image_url",
            "image_url": {"url": f"data:image/{config.picture};base64,{data}"},
        }
    frames = ",".join(_encoded(frame, config) for frame in piece.frames)
    return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{frames}"}}


def _encoded(frame: NDArray[np.uint8], config: ServerConfig) -> str:
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, config.quality] if config.picture == "jpeg" else []
    done, data = cv2.imencode(f".{config.picture}", bgr, quality)
    if not done:
        raise RefusedError(f"a frame of {frame.shape} cannot be encoded")
    return base64.b64encode(data.tobytes()).decode()


def check(choices: Sequence[str]) -> None:
    """Only the first token's probabilities are told: it must tell choices apart.

    Raises:
        UserError: it does not.
    """
    first = [choice[:1].casefold() for choice in choices]
    if len(set(first)) < len(first) or "" in first:
        raise UserError(
            f"captions: a server cannot weigh {', '.join(choices)}: choices must differ in their "
            "first letter"
        )


def opened(request: CaptionRequest, reply: Reply, config: ServerConfig) -> Envelope:
    """Take an answer out of its wrapping.

    Raises:
        BindingError: it is another question's.
        Unusable: it is another model's.
        MalformedError: it is none.
    """
    try:
        value = json.loads(reply.body)
        _same(name_of(request), reply.headers.get("x-request-id"), value.get("id"))
        _from(config, value.get("model"))
        (choice,) = value["choices"]
        message, usage = choice["message"], value.get("usage") or {}
        raw = message.get("content") or ""
        if not isinstance(raw, str):
            raise TypeError("the content is no text")
        refused = bool(message.get("refusal")) and not raw
        return Envelope(
            raw,
            "content_filter" if refused else str(choice["finish_reason"]),
            _tokens(usage.get("prompt_tokens")),
            _tokens(usage.get("completion_tokens")),
            _likely(request.choices, choice) if request.choices else {},
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        told = f"not the protocol's answer: {type(error).__name__}: {error}"
        raise MalformedError(told[:200]) from error


def _same(name: str, *told: object) -> None:
    """An id of ours in an answer is that of its question; servers also have ids of their own."""
    for echo in (_OURS.search(str(one)) for one in told if one):
        if echo and echo.group() != name:
            raise BindingError(f"an answer to {echo.group()} came to the question {name}")


def _from(config: ServerConfig, told: object) -> None:
    """Captions are signed with the model that was named. Hosted ones answer under longer names."""
    if config.dialect == "vllm" and told not in (None, config.model):
        raise Unusable(
            f"captions: {config.address} was asked for {config.model} and answers as "
            f"{str(told)[:100]!r}: name that one, or another address (captions.server.model)"
        )


def _tokens(told: object) -> int:
    """A count; 0 where none is told."""
    if told is None:
        return 0
    if not isinstance(told, int) or not 0 <= told < MOST_TOKENS:
        raise ValueError(f"{str(told)[:20]} is no count of tokens")
    return told


def _likely(choices: Sequence[str], choice: Mapping[str, Any]) -> dict[str, float]:
    """Choices by the probability of the first token of each."""
    weights = dict.fromkeys(choices, 0.0)
    for one in choice["logprobs"]["content"][0]["top_logprobs"]:
        token, weight = one["token"].strip().casefold(), math.exp(float(one["logprob"]))
        for name in weights:
            if token and name.casefold().startswith(token):
                weights[name] += weight
    return normalised(weights) if sum(weights.values()) >= LEAST_SAID else {}
