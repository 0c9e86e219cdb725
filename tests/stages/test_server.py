"""The backend `server` against servers that do everything wrong."""

import base64
import logging
import os
import pickle
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from fake_server import Answering, Asked, Fake, caption, envelope, good, serving
from pydantic import ValidationError

import stages.captioning.transport as transport_module
from corpus.errors import UserError
from pipeline.faults import passing, systemic
from stages.captioning.backend import (
    NOTHING,
    Away,
    BindingError,
    CaptionAnswer,
    CaptionRequest,
    Shown,
    Unusable,
)
from stages.captioning.protocol import body
from stages.captioning.server import ServerBackend
from stages.captioning.server_config import ServerConfig

KEY = "sk-secret-0123456789"
SCHEMA = {
    "type": "object",
    "properties": {"caption": {"type": "string", "minLength": 1}},
    "required": ["caption"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "FIRST_WAIT", 0.01)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SOME_KEY", KEY)


def backend(fake: Fake, **settings: Any) -> ServerBackend:
    told = {"address": fake.address, "model": "fake", "patience": 5, "timeout": 5, **settings}
    return ServerBackend(ServerConfig(**told))


def question(about: str, **changes: Any) -> CaptionRequest:
    request = CaptionRequest(
        kind="segment",
        start=2.0,
        end=3.0,
        shown=NOTHING,
        before=NOTHING,
        previous=None,
        known=(),
        prompt=f"What changes: {about}",
        schema=SCHEMA,
        model="fake",
        sampling=ServerConfig().decoding.model_dump(),
    )
    return replace(request, **changes)


def ask(asked: ServerBackend, *requests: CaptionRequest) -> dict[str, CaptionAnswer]:
    """Answers by what the questions are about."""
    names = {request.id: request.prompt.rsplit(": ", 1)[-1] for request in requests}
    found: dict[str, CaptionAnswer] = {}
    asked.submit(requests)
    while len(found) < len(requests):
        found |= {names[answer.id]: answer for answer in asked.collect()}
    return found


def once(*first: Callable[[Fake, Answering, Asked], None]) -> Callable[..., None]:
    """Does each of these once per question, then answers well."""
    left: dict[str, list[Any]] = defaultdict(lambda: list(first))

    def behave(fake: Fake, answering: Answering, asked: Asked) -> None:
        rest = left[asked.words]
        (rest.pop(0) if rest else good)(fake, answering, asked)

    return behave


def status(code: int, value: Any = None, **headers: str) -> Callable[..., None]:
    return lambda fake, answering, asked: answering.say(
        code, value or {"error": "no"}, {n.replace("_", "-"): v for n, v in headers.items()}
    )


def drop(fake: Fake, answering: Answering, asked: Asked) -> None:
    answering.drop()


# -- what is sent ---------------------------------------------------------------------------------


def test_answers_land_where_they_belong_whatever_their_order() -> None:
    """Later questions are answered first."""

    def last_first(fake: Fake, answering: Answering, asked: Asked) -> None:
        time.sleep(0.02 * (12 - int(asked.words.rsplit(" ", 1)[-1])))
        good(fake, answering, asked)

    with serving(last_first) as fake:
        found = ask(backend(fake, concurrency=12), *(question(str(i)) for i in range(12)))
    assert {name: answer.text for name, answer in found.items()} == {
        str(i): f"about {i}" for i in range(12)
    }
    assert list(found) != [str(i) for i in range(12)]
    assert all(answer.status == "ok" for answer in found.values())


def test_no_more_questions_are_under_way_than_allowed() -> None:
    def slow(fake: Fake, answering: Answering, asked: Asked) -> None:
        time.sleep(0.05)
        good(fake, answering, asked)

    with serving(slow) as fake:
        ask(backend(fake, concurrency=3), *(question(str(i)) for i in range(12)))
    assert fake.most == 3


def test_what_it_took_is_counted_and_priced() -> None:
    with serving() as fake:
        (answer,) = ask(backend(fake, price_in=2, price_out=10), question("a")).values()
    assert (answer.detail.tokens_in, answer.detail.tokens_out) == (100, 20)
    assert answer.detail.cost == pytest.approx((100 * 2 + 20 * 10) / 1e6)
    assert answer.detail.seconds > 0


def test_frames_decoding_and_schema_are_sent_as_they_are() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 8, 12, 3), dtype=np.uint8)
    asked = question("a", shown=Shown(frames, (2.0, 2.5, 3.0)))
    config = ServerConfig(address="http://x/v1", model="m", show="images", picture="png")
    sent = body(asked, config)
    content = sent["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert len(urls) == 3 and content[0]["text"] == "Frame at 2 s:\n"
    for frame, url in zip(frames, urls, strict=True):
        data = np.frombuffer(base64.b64decode(url.removeprefix("data:image/png;base64,")), np.uint8)
        picture = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.array_equal(picture, frame)
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (sent["temperature"], sent["max_tokens"], sent["seed"]) == (0, 256, 0)

    again = replace(asked, sampling=config.again.model_dump())
    assert body(again, config)["temperature"] == config.again.temperature
    assert body(again, config)["frequency_penalty"] == config.again.frequency_penalty
    assert (body(again, config)["top_k"], body(again, config)["min_p"]) == (0, 0)


def test_a_video_goes_with_its_rate_and_all_its_frames() -> None:
    def at(fps: float, count: int) -> Shown:
        return Shown(np.zeros((count, 8, 8, 3), np.uint8), tuple(i / fps for i in range(count)))

    config = ServerConfig(address="http://x/v1", model="m")
    sent = body(question("a", shown=at(4, 40), before=at(4, 3)), config)
    assert sent["media_io_kwargs"] == {"video": {"fps": pytest.approx(4), "num_frames": -1}}
    videos = [p for p in sent["messages"][0]["content"] if p["type"] == "video_url"]
    assert [v["video_url"]["url"].count(",") for v in videos] == [3, 40]
    sent = body(question("a", shown=at(4, 5), before=at(2, 5)), config)
    kinds = {part["type"] for part in sent["messages"][0]["content"]}
    assert "media_io_kwargs" not in sent and kinds == {"text", "image_url"}


def test_the_dialect_openai_has_no_words_of_vllm() -> None:
    config = ServerConfig(address="http://x/v1", model="m", dialect="openai", show="images")
    for choices in ((), ("yes", "no")):
        sent = body(question("a", choices=choices), config)
        assert not {"structured_outputs", "repetition_penalty", "max_tokens"} & set(sent)
    with pytest.raises(ValidationError, match="choose images"):
        ServerConfig(dialect="openai")


# -- servers that are busy or away ----------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        [status(500), status(503)],
        [status(429)],
        [status(429, None, Retry_After="0")],
        [status(429, None, Retry_After="soon")],
        [status(429, None, Retry_After="nan")],
        [status(429, None, Retry_After="Mon, 01 Jan 2024 00:00:00 GMT")],
        [drop, drop],
    ],
    ids=["5xx", "429", "now", "nonsense", "nan", "past date", "dropped"],
)
def test_a_busy_server_is_asked_again(trouble: list[Any]) -> None:
    with serving(once(*trouble)) as fake:
        found = ask(backend(fake), question("a"), question("b"))
    assert {answer.text for answer in found.values()} == {"about a", "about b"}
    assert len(fake.questions) == 2 * (1 + len(trouble))


def test_a_server_that_says_when_is_believed_by_all() -> None:
    calls: list[float] = []

    def behave(fake: Fake, answering: Answering, asked: Asked) -> None:
        calls.append(time.monotonic())
        first = len(calls) == 1
        (status(429, None, Retry_After="0.4") if first else good)(fake, answering, asked)

    with serving(behave) as fake:
        asked = backend(fake, concurrency=2)
        asked.submit([question("a")])
        while not calls:
            time.sleep(0.01)
        time.sleep(0.1)
        asked.submit([question("b")])
        found = [*asked.collect(), *asked.collect()]
    assert len(found) == 2
    assert min(at - calls[0] for at in calls[1:]) >= 0.35


@pytest.mark.parametrize("trouble", [status(502), drop, status(429, None, Retry_After="9999999")])
def test_patience_ends_and_nothing_is_said_of_the_record(trouble: Any) -> None:
    with serving(trouble) as fake, pytest.raises(Away) as caught:
        ask(backend(fake, patience=0.3), question("a"))
    assert passing(caught.value) and not systemic(caught.value)


def test_a_server_that_is_not_there_is_away() -> None:
    with serving() as fake:
        asked = backend(fake, patience=0.1)
    with pytest.raises(Away, match="does not answer"):
        asked.open()
    with pytest.raises(Away, match="does not answer"):
        ask(asked, question("a"))


def test_questions_go_out_at_the_agreed_rate() -> None:
    with serving() as fake:
        start = time.monotonic()
        ask(backend(fake, per_minute=600, concurrency=8), *(question(str(i)) for i in range(6)))
    assert time.monotonic() - start >= 0.5  # five gaps of 0.1 s


# -- answers that are none ------------------------------------------------------------------------


def after_a_good_one(behave: Any, **settings: Any) -> CaptionAnswer:
    """The answer to a question to a server that has answered well before."""

    def sometimes(fake: Fake, answering: Answering, asked: Asked) -> None:
        (behave if asked.words.endswith("odd") else good)(fake, answering, asked)

    with serving(sometimes) as fake:
        asked = backend(fake, **settings)
        assert ask(asked, question("a"))["a"].text == "about a"
        odd = ask(asked, question("odd"))["odd"]
        assert ask(asked, question("b"))["b"].text == "about b"  # it goes on
    return odd


@pytest.mark.parametrize(
    "value",
    [
        b"{broken",
        b"",
        b"[" * 50_000,
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": null, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "{}"}}]}',
        b'{"id": 3, "choices": "x"}',
        *(
            b'{"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}], '
            b'"usage": {"prompt_tokens": %s}}' % count
            for count in (b"1e400", b"-1", b"1" + 30 * b"0", b'"many"', b"NaN")
        ),
    ],
)
def test_a_broken_answer_is_an_error_of_that_question(value: bytes) -> None:
    odd = after_a_good_one(status(200, value or b" "))
    assert odd.status == "error" and odd.text == ""


def test_an_answer_that_cannot_be_unpacked_is_an_error_of_that_question() -> None:
    odd = after_a_good_one(
        lambda fake, answering, asked: answering.say(200, b"no gzip", {"Content-Encoding": "gzip"})
    )
    assert odd.status == "error" and "cannot be unpacked" in odd.message


def test_what_is_no_caption_is_kept_in_part() -> None:
    """An answer may be a megabyte, and tables keep what was said."""
    odd = after_a_good_one(
        lambda fake, answering, asked: answering.say(
            200, envelope(asked, "".join(f"{i} " for i in range(100_000)))
        )
    )
    assert odd.status in ("schema", "degenerate") and len(odd.text) <= 4000


def test_a_server_that_answers_as_another_model_stops_the_run() -> None:
    """Its captions would be signed with a model that never saw a frame."""

    def other(fake: Fake, answering: Answering, asked: Asked) -> None:
        answering.say(200, {**envelope(asked, caption("A ball")), "model": "cheap"})

    with serving(other) as fake:
        with pytest.raises(Unusable, match="asked for fake and answers as 'cheap'"):
            ask(backend(fake), question("a"))
        hosted = backend(fake, dialect="openai", show="images")
        assert ask(hosted, question("a"))["a"].status == "ok"


def test_broken_answers_from_the_start_blame_no_question() -> None:
    refuse = status(400, {"error": "unknown field"})
    with serving(refuse) as fake, pytest.raises(UserError, match="unknown field") as caught:
        ask(backend(fake), question("a"))
    assert passing(caught.value)


@pytest.mark.parametrize(
    ("text", "end", "more", "expected"),
    [
        (caption("A ball"), "length", {}, "truncated"),
        (caption("A ball"), "content_filter", {}, "blocked"),
        ("A ball.", "stop", {}, "schema"),
        (None, "stop", {}, "degenerate"),
        ("", "stop", {}, "degenerate"),
        (caption("rolls and " * 30), "stop", {}, "degenerate"),
        (None, "stop", {"message": {"content": None, "refusal": "I won't"}}, "blocked"),
    ],
)
def test_statuses(text: str | None, end: str, more: dict[str, Any], expected: str) -> None:
    odd = after_a_good_one(lambda f, a, asked: a.say(200, envelope(asked, text, end, **more)))
    assert odd.status == expected and odd.message
    assert odd.detail.tokens_out == 20  # rejected ones cost, too


def test_an_endless_answer_is_cut_off() -> None:
    def endless(fake: Fake, answering: Answering, asked: Asked) -> None:
        answering.send_response(200)
        answering.send_header("Transfer-Encoding", "chunked")
        answering.end_headers()
        while not fake.over.is_set():
            answering.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")

    odd = after_a_good_one(endless, most_bytes=300_000)
    assert odd.status == "error" and "longer than 300000 bytes" in odd.message


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
def test_an_answer_that_takes_too_long_is_a_timeout(drips: bool) -> None:
    def slow(fake: Fake, answering: Answering, asked: Asked) -> None:
        answering.send_response(200)
        answering.send_header("Content-Length", "100000")
        answering.end_headers()
        while drips and not fake.over.wait(0.05):
            answering.wfile.write(b" ")
            answering.wfile.flush()
        fake.over.wait()

    odd = after_a_good_one(slow, timeout=0.5)
    assert odd.status == "timeout" and "0.5 s" in odd.message


# -- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["body", "header"])
def test_an_answer_to_another_question_stops_the_worker(where: str) -> None:
    """Two answers are exchanged: each is whole and well, only not this question's."""
    both = threading.Barrier(2)
    heard: list[Asked] = []

    def exchange(fake: Fake, answering: Answering, asked: Asked) -> None:
        heard.append(asked)
        both.wait(5)
        other = heard[1] if asked is heard[0] else heard[0]
        value = envelope(other, caption("of another"))
        if where == "header":
            answering.say(
                200, {**value, "id": "x"}, {"X-Request-Id": other.headers["X-Request-Id"]}
            )
        else:
            answering.say(200, value)

    with serving(exchange) as fake, pytest.raises(BindingError, match="came to the question"):
        ask(backend(fake, concurrency=2), question("a"), question("b"))


def test_a_server_with_ids_of_its_own_is_believed() -> None:
    def own(fake: Fake, answering: Answering, asked: Asked) -> None:
        value = {**envelope(asked, caption("A ball")), "id": "chatcmpl-Bx7"}
        answering.say(200, value, {"x-request-id": "req_0123456789abcdef0123456789abcdef"})

    with serving(own) as fake:
        assert ask(backend(fake), question("a"))["a"].text == "A ball"
    assert fake.questions[0].headers["X-Request-Id"] == f"tv2tv-{question('a').id}"


def test_after_a_cancel_nothing_old_is_heard() -> None:
    waits = threading.Event()

    def late(fake: Fake, answering: Answering, asked: Asked) -> None:
        if asked.words.endswith("old"):
            waits.wait(5)
        good(fake, answering, asked)

    with serving(late) as fake:
        asked = backend(fake, concurrency=2)
        asked.submit([question("first old"), question("second old"), question("third old")])
        while len(fake.questions) < 2:
            time.sleep(0.01)
        asked.cancel()
        assert asked.collect() == []
        asked.submit([question("new")])
        waits.set()
        (answer,) = asked.collect()
        assert answer.id == question("new").id
        assert asked.collect() == []
        time.sleep(0.2)
        assert not any(one.words.endswith("third old") for one in fake.questions)


# -- keys and addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize("code", [401, 403, 404, 301, 302, 307, 308])
def test_a_refused_key_or_a_wrong_address_stops_the_run(code: int) -> None:
    """And a redirection is not followed: the key would go with it."""
    with serving() as other, serving() as fake:
        fake.behave = status(code, {"error": "no"}, Location=f"{other.address}/chat/completions")
        with pytest.raises(Unusable, match="captions: http") as caught:
            ask(backend(fake, key_env="SOME_KEY"), question("a"))
        assert systemic(caught.value)
        assert other.asked == [] and len(fake.questions) == 1


def test_the_key_is_sent_and_never_told(caplog: pytest.LogCaptureFixture) -> None:
    """The server says back what it was sent, as some do."""

    def tell(fake: Fake, answering: Answering, asked: Asked) -> None:
        answering.say(401, f"\x1b[2Jbad key {asked.headers['Authorization']}".encode())

    caplog.set_level(logging.DEBUG)
    with serving(tell) as fake:
        asked = backend(fake, key_env="SOME_KEY")
        assert KEY.encode() not in pickle.dumps(asked)  # as Ray sends it to its workers
        with pytest.raises(Unusable, match=r"bad key Bearer \*\*\*") as caught:
            ask(asked, question("a"))
    assert fake.questions[0].headers["Authorization"] == f"Bearer {KEY}"
    chain = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "\x1b" not in chain and KEY not in chain and KEY not in caplog.text
    assert KEY not in str(asked.identity()) + repr(asked.config) + repr(vars(asked))


@pytest.mark.parametrize("held", [None, "  ", f"{KEY}\nX-More: yes", f"{KEY}ß"])
def test_a_key_that_is_none_is_told_but_not_said(
    monkeypatch: pytest.MonkeyPatch, held: str | None
) -> None:
    monkeypatch.delenv("SOME_KEY")
    if held is not None:
        monkeypatch.setenv("SOME_KEY", held)
    with serving() as fake, pytest.raises(Unusable, match="SOME_KEY holds no key") as caught:
        backend(fake, key_env="SOME_KEY").open()
    assert KEY not in str(caught.value) and fake.asked == []


@pytest.mark.parametrize(
    "settings",
    [
        {"address": f"http://me:{KEY}@host/v1"},
        {"address": f"http://{KEY}@host/v1"},
        {"address": f"http://host/v1?key={KEY}"},
        {"address": "file:///etc/passwd"},
        {"address": "ftp://host/v1"},
        {"address": "http:///v1"},
        {"address": "http://host:99999/v1"},
        {"key_env": KEY},
    ],
)
def test_an_address_or_name_that_holds_a_secret_is_refused_unsaid(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as caught:
        ServerConfig(model="m", **settings)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"concurrency": 100_000}, {"timeout": float("inf")}])
def test_settings_that_no_machine_can_keep_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ServerConfig(address="http://x/v1", model="m", **wrong)


def test_a_look_before_the_first_question() -> None:
    with serving() as fake:
        backend(fake).open()
        with pytest.raises(Unusable, match="has no model other, but fake"):
            backend(fake, model="other").open()
        fake.models = lambda fake, answering, asked: answering.say(200, b"a web page")
        backend(fake, model="other").open()  # it lists nothing: the first question will tell
    with pytest.raises(UserError, match="address and model"):
        ServerBackend(ServerConfig(model="m"))


# -- choices --------------------------------------------------------------------------------------


def weighed(*told: tuple[str, float]) -> Callable[..., None]:
    top = [{"token": token, "logprob": float(np.log(weight))} for token, weight in told]
    logs = {"logprobs": {"content": [{"token": told[0][0], "top_logprobs": top}]}}
    return lambda fake, answering, asked: answering.say(
        200, envelope(asked, told[0][0], "length", **logs)
    )


def check(about: str, *choices: str) -> CaptionRequest:
    return question(about, kind="check", schema={}, choices=choices)


@pytest.mark.parametrize(
    ("told", "yes"),
    [
        ([("yes", 0.6), ("no", 0.2), ("maybe", 0.2)], 0.75),
        ([("Yes", 0.5), (" yes", 0.1), ("y", 0.1), ("No", 0.3)], 0.7),
        ([("yes", 0.9), ("the", 0.1)], 1.0),
    ],
)
def test_choices_are_weighed_by_their_first_tokens(told: list[Any], yes: float) -> None:
    with serving(weighed(*told)) as fake:
        answer = ask(backend(fake), check("a", "yes", "no"))["a"]
    assert answer.status == "ok" and answer.likely["yes"] == pytest.approx(yes)
    assert sum(answer.likely.values()) == pytest.approx(1)
    assert fake.questions[0].body["structured_outputs"] == {"choice": ["yes", "no"]}


def test_an_answer_beside_all_choices_weighs_nothing() -> None:
    with serving(weighed(("The", 0.7), ("yes", 0.2), ("no", 0.1))) as fake:
        answer = ask(backend(fake), check("a", "yes", "no"))["a"]
    assert answer.status == "schema" and answer.likely == {}


def test_choices_that_begin_alike_are_refused() -> None:
    with serving() as fake, pytest.raises(UserError, match="differ in their"):
        backend(fake).submit([check("a", "left", "Low")])
