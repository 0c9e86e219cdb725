"""The review page in a real browser: keys are pressed, labels land in the table."""

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from chromium import Page, browser
from reviewing import Client, clips, corpus, review_of, serving

from corpus.layout import Layout
from pipeline.review.labels import Labels

pytestmark = pytest.mark.browser
PLAYING = "document.body.dataset.at && film.readyState >= 2 && !film.paused && !film.seeking"
SAVED = "$('saved').textContent === 'saved ✓' && !unsent.length"


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with browser() as page:
        yield page


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return corpus(tmp_path / "corpus")


@pytest.fixture
def client(layout: Layout) -> Iterator[Client]:
    with serving(review_of(layout, clips(layout))) as found:
        yield found


@pytest.fixture
def page(tab: Page, client: Client) -> Iterator[Page]:
    tab.events.clear()
    tab.open(client.review.url)
    tab.until(PLAYING)
    yield tab
    tab.open("about:blank")
    told = [event["params"] for event in tab.events if event["method"] == "Log.entryAdded"]
    assert not [one["entry"]["text"] for one in told if one["entry"]["level"] == "error"]
    assert not [e for e in tab.events if e["method"] == "Runtime.exceptionThrown"]


def said(layout: Layout) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {one.segment_id: (one.label, one.kinds) for one in Labels(layout).standing()}


def test_keys_make_labels(page: Page, layout: Layout) -> None:
    assert page.value("document.body.dataset.at") == "0/0"
    page.press("a")
    assert page.value("document.body.dataset.at") == "0/1"
    for key in "362":  # wrong time, hallucinated, wrong action
        page.press(key)
    page.press("6")  # not hallucinated after all
    page.press("ArrowRight")
    assert page.value("document.body.dataset.at") == "0/3", "over what has no caption"
    page.press("r")
    assert page.value("document.body.dataset.at") == "1/0", "on to the next clip"
    page.until(SAVED)
    assert said(layout) == {
        "s0-0": ("accept", ()),
        "s0-1": ("reject", ("wrong_action", "wrong_time")),
        "s0-3": ("reject", ()),
    }
    assert page.value("$('count').textContent") == "3 of 6 captions"


def test_undo_and_taking_back(page: Page, layout: Layout) -> None:
    for key in ("a", "a", "u"):
        page.press(key)
    assert page.value("document.body.dataset.at") == "0/1"
    page.until(SAVED)
    assert said(layout) == {"s0-0": ("accept", ())}
    for key in ("ArrowLeft", "1", "u"):
        page.press(key)
    page.until(SAVED)
    assert said(layout) == {"s0-0": ("accept", ())}, "what was there before is there again"
    page.press("x")
    page.until(SAVED)
    assert said(layout) == {}
    page.press("A")
    page.until(SAVED)
    assert set(said(layout)) == {"s0-0", "s0-1", "s0-3"}
    page.press("u")
    page.until(SAVED)
    assert said(layout) == {}


def test_it_goes_on_where_it_was_left(tab: Page, page: Page, client: Client) -> None:
    for key in ("a", "r"):
        page.press(key)
    page.until(SAVED)
    tab.open(client.review.url)
    tab.until("document.body.dataset.at === '0/3' && film.readyState >= 2")
    assert tab.value("$('saved').textContent") == "welcome back"
    assert tab.value("$('list').children[1].className.includes('reject')")


def test_the_clip_stays_on_its_caption_or_the_captions_follow_the_clip(page: Page) -> None:
    page.press("ArrowRight")
    page.until("!film.seeking && film.currentTime >= 1.06")
    times = []
    for _ in range(12):
        time.sleep(0.2)
        times.append(page.value("film.currentTime"))
    assert min(times) >= 1.0 and max(times) <= 2.25, times
    assert min(b - a for a, b in pairwise(times)) < 0, "it starts over"
    page.press("l")
    page.until("document.body.dataset.at === '0/2'")
    page.until("document.body.dataset.at === '0/3'")
    page.until("document.body.dataset.at === '0/0'")  # over the end of the clip
    page.press(" ")
    assert page.value("film.paused")
    before = page.value("film.currentTime")
    page.press(".")
    page.until("!film.seeking")
    assert page.value("film.currentTime") - before == pytest.approx(1 / 16, abs=0.002)


def test_clips_are_gone_through_and_shortcuts_shown(page: Page) -> None:
    page.press("ArrowDown")
    page.until("document.body.dataset.at === '1/0' && film.src.includes('0001.mp4')")
    page.press("ArrowDown")
    assert page.value("document.body.dataset.at") == "1/0", "there is no third"
    page.press("ArrowUp")
    page.until("document.body.dataset.at === '0/0'")
    page.press("?")
    assert page.value("$('help').open && $('keys').children.length > 30")
    page.press("a")
    page.press("Escape")
    page.until("!$('help').open")
    page.press("?")
    page.press("?")
    assert page.value("!$('help').open")
    assert page.value("labels.size") == 0, "keys mean nothing while they are read about"
    assert page.value("$('machine').hidden")
    page.press("v")
    assert page.value("$('machine').textContent") == "verdict: keep · own 0.25"


def test_buttons_do_what_keys_do(page: Page, layout: Layout) -> None:
    page.value("document.querySelector('[data-kind=language]').click()")
    page.value("$('list').children[3].click()")
    assert page.value("document.body.dataset.at") == "0/3"
    page.value("$('accept').click()")
    page.until(SAVED)
    assert said(layout) == {"s0-0": ("reject", ("language",)), "s0-3": ("accept", ())}


def test_foreign_words_are_words(page: Page) -> None:
    page.press("ArrowRight")
    assert page.value("$('caption').textContent").startswith("<script>window.stolen=1</script>")
    assert page.value("document.querySelectorAll('main script, main img').length") == 0
    assert page.value("window.stolen === undefined")


def test_lossless_clips_of_worlds_play(tab: Page, layout: Layout) -> None:
    tiny = clips(layout, 1, (24, 24), "rgb_lossless")
    with serving(review_of(layout, tiny, encoding="rgb_lossless")) as client:
        tab.open(client.review.url)
        tab.until(PLAYING)
        assert tab.value("film.videoWidth") >= 256 and tab.value("$('nofilm').hidden")
        tab.open("about:blank")


def test_a_clip_that_is_lost_says_so_and_can_still_be_judged(tab: Page, layout: Layout) -> None:
    some = clips(layout)
    layout.media.path(some[0].media).unlink()
    with serving(review_of(layout, some)) as client:
        tab.open(client.review.url)
        tab.until("$('nofilm').textContent.includes('is missing: `tv2tv run` makes it again')")
        tab.press("ArrowDown")
        tab.until(f"{PLAYING} && $('nofilm').hidden")
        tab.open("about:blank")


def test_a_narrow_window_has_room_for_everything(page: Page, client: Client) -> None:
    page.open(client.review.url, 600, 800)
    page.until(PLAYING)
    low = "document.querySelector('#left').getBoundingClientRect().bottom"
    assert page.value(f"document.querySelector('aside').getBoundingClientRect().top >= {low}")
    judge = "document.querySelector('#judge').getBoundingClientRect()"
    assert page.value(f"{judge}.bottom <= {low} && {judge}.height > 20")
    page.press("a")
    page.press("a")
    assert page.value("document.querySelector('main').scrollTop") == 0, "the film stays in sight"
    page.until(SAVED)


def test_what_cannot_be_stored_waits_and_is_told(
    page: Page, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Labels, some: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Labels, "write", full)
        page.press("a")
        page.until("!$('trouble').hidden && $('trouble').textContent.includes('1 labels wait')")
        assert said(layout) == {}
    page.until(f"{SAVED} && $('trouble').hidden")
    assert said(layout) == {"s0-0": ("accept", ())}
    page.events[:] = [  # the refusals were meant
        e for e in page.events if "500" not in str(e.get("params", {}).get("entry"))
    ]


def test_a_picture_of_it(page: Page, tmp_path: Path) -> None:
    from PIL import Image

    for key in ("a", "3"):
        page.press(key)
    page.until(SAVED)
    page.screenshot(tmp_path / "page.png")
    colours = Image.open(tmp_path / "page.png").convert("RGB").getcolors(1_000_000)
    assert colours is not None and len(colours) > 100
