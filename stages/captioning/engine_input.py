"""How a question is put to vLLM: chat parts, pictures with their times, tokens of choices."""

from collections.abc import Sequence
from typing import Any

from PIL import Image

from corpus.errors import UserError
from stages.captioning.worded import Moving, Piece, Still

# vLLM 0.29 drops the times of these models' videos, which then believe in 24 frames per second
# (vllm#47736): they are handed to the processor by hand.
TIMES_BY_HAND = ("qwen2_5_vl",)
Tokens = tuple[int, ...]


def chat(template: Any, shown: Sequence[Piece]) -> str:
    """One turn of a person, as the model was taught to read it.

    Args:
        template: what has ``apply_chat_template``: the model's processor or tokenizer.
    """
    content = [_part(piece) for piece in shown]
    told = template.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return str(told)


def media(shown: Sequence[Piece], model_type: str) -> dict[str, Any]:
    """Pictures in the order of their places, videos with their true times: members of a prompt."""
    videos = [piece for piece in shown if isinstance(piece, Moving)]
    times = [_times(video) for video in videos]
    both = {
        "image": [Image.fromarray(piece.frame) for piece in shown if isinstance(piece, Still)],
        "video": [
            (video.frames, {**time, "do_sample_frames": False})
            for video, time in zip(videos, times, strict=True)
        ],
    }
    found: dict[str, Any] = {kind: items for kind, items in both.items() if items}
    prompt: dict[str, Any] = {"multi_modal_data": found} if found else {}
    if videos and model_type in TIMES_BY_HAND:
        prompt["mm_processor_kwargs"] = {"video_metadata": times, "do_sample_frames": False}
    return prompt


def ways(tokenizer: Any, choices: Sequence[str]) -> dict[str, Tokens]:
    """Tokens of each choice.

    Raises:
        UserError: one is empty, or begins with another: nothing would tell where it ends.
    """
    found = {one: tuple(tokenizer.encode(one, add_special_tokens=False)) for one in choices}
    for one, way in found.items():
        for other, longer in found.items():
            if not way or (one != other and longer[: len(way)] == way):
                raise UserError(f"captions: the choices {one!r} and {other!r} cannot be told apart")
    return found


def forks(among: Sequence[Tokens]) -> dict[Tokens, set[int]]:
    """The tokens that follow every beginning of any way."""
    found: dict[Tokens, set[int]] = {}
    for way in among:
        for i, token in enumerate(way):
            found.setdefault(way[:i], set()).add(token)
    return found


def _part(piece: Piece) -> dict[str, str]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    return {"type": "image" if isinstance(piece, Still) else "video"}


def _times(video: Moving) -> dict[str, Any]:
    count = len(video.frames)
    return {
        "fps": video.fps,
        "duration": count / video.fps,
        "total_num_frames": count,
        "frames_indices": list(range(count)),
    }
