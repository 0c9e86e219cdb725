"""The review page's HTTP interface: what it gives, and to whom it gives nothing."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from reviewing import Client, clips, corpus, film, record, review_of, said, serving

from corpus.clock import Clock
from corpus.errors import UserError
from corpus.layout import Layout
from corpus.video import read_video, write_video
from pipeline.review import films as films_module
from pipeline.review.films import SHORT_SIDE, Films
from pipeline.review.labels import Labels
from pipeline.review.sample import clip_of
from pipeline.review.server import HEADERS, MOST_BYTES


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return corpus(tmp_path_factory.mktemp("review") / "corpus")


@pytest.fixture(scope="module")
def client(layout: Layout) -> Iterator[Client]:
    with serving(review_of(layout, clips(layout))) as found:
        yield found


@pytest.fixture
def labels(layout: Layout) -> Iterator[Labels]:
    """The labels, of which there are none at the beginning."""
    layout.table("labels", "1").clear()
    yield Labels(layout)


def test_the_page_and_what_it_needs(client: Client) -> None:
    for path, kind in (
        ("", "text/html"),
        ("review.js", "text/javascript"),
        ("review.css", "text/css"),
        ("icon.svg", "image/svg+xml"),
    ):
        answer = client.get(path)
        assert answer.status == 200 and answer.body
        assert answer.headers.get_content_type() == kind
    page = client.get("").body.decode()
    assert "http://" not in page and "https://" not in page and "//" not in page.partition(">")[2]
    assert "onclick" not in page and "<style" not in page and 'style="' not in page


def test_every_answer_tells_the_browser_what_it_may_not(client: Client) -> None:
    answers = [client.get(""), client.get("session"), client.get("no"), client.raw("GET", "/")]
    answers += [client.raw("GET", "/", headers={"Host": "evil.example"}), client.post(b"{")]
    answers.append(client.get(f"clips/{0:032x}.mp4", {"Range": "bytes=0-9"}))
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "Access-Control-Allow-Origin" not in answer.headers
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy and "http" not in policy


def test_the_session_holds_clips_and_no_paths(client: Client, layout: Layout) -> None:
    session = client.get("session").json
    assert session["reviewer"] == "ada" and len(session["kinds"]) == 7
    assert [len(clip["segments"]) for clip in session["clips"]] == [4, 4]
    first, second = session["clips"][0]["segments"][:2]
    assert (first["from"], first["to"], second["from"]) == (0.0, 17 / 16, 17 / 16)
    assert str(layout.root) not in client.get("session").body.decode()


# -- films ----------------------------------------------------------------------------------------

NAME = f"clips/{0:032x}.mp4"


def test_films_come_in_ranges(client: Client, layout: Layout) -> None:
    whole = layout.media.path(layout.media.clip(f"{0:032x}")).read_bytes()
    answer = client.get(NAME)
    assert (answer.status, answer.body) == (200, whole)
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Accept-Ranges"] == "bytes"
    size = len(whole)
    for asked, start, end in (
        ("bytes=0-99", 0, 100),
        (f"bytes={size - 7}-", size - 7, size),
        ("bytes=-9", size - 9, size),
        (f"bytes=5-{size * 2}", 5, size),
    ):
        part = client.get(NAME, {"Range": asked})
        assert (part.status, part.body) == (206, whole[start:end]), asked
        assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
    for asked in (f"bytes={size}-", "bytes=9-5", "bytes=x-y", "lines=1-2"):
        assert client.get(NAME, {"Range": asked}).status in (200, 416), asked
    assert client.get(NAME, {"Range": f"bytes={size}-"}).status == 416
    head = client.get(NAME, method="HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(size))


@pytest.mark.parametrize(
    "path",
    [
        "clips/../../../../etc/passwd",
        "clips/..%2f..%2f..%2fcorpus.json",
        "clips/%2e%2e/%2e%2e/corpus.json.mp4",
        "clips/..%2f..%2fclips%2f00%2f" + f"{0:032x}.mp4",
        f"clips/00/{0:032x}.mp4",
        f"clips/{0:032x}.mp4%00",
        f"clips/{9:032x}.mp4",
        "clips/.mp4",
        "../corpus.json",
        "..%2f..%2fcorpus.json",
        "index.html",
        "review.py",
        "%ff%fe",
        "session/",
    ],
)
def test_nothing_but_what_is_under_review_is_given(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status in (400, 404), path
    assert b"schema" not in answer.body and b"root:" not in answer.body


def test_a_lost_film_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    layout = corpus(tmp_path / "corpus")
    some = clips(layout)
    layout.media.path(some[0].media).unlink()
    with serving(review_of(layout, some)) as client:
        assert client.get(NAME).status == 404
        assert "is missing: `tv2tv run` makes it again" in client.get(NAME).json["error"]
        assert client.get(f"clips/{1:032x}.mp4").status == 200


def test_lossless_films_are_copied_for_the_browser_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, copies = corpus(tmp_path / "corpus"), tmp_path / "copies"
    copies.mkdir()
    one = record(layout.media, 0, size=(24, 24))
    path = layout.media.path(one["clip"])
    film(path, 4, (24, 24), "rgb_lossless")
    clip = clip_of(one, Clock())
    films = Films(layout.media, Clock(), "rgb_lossless", copies)
    written: list[Path] = []

    def write(path: Path, *rest: Any) -> None:
        written.append(path)
        time.sleep(0.1)
        write_video(path, *rest)

    monkeypatch.setattr(films_module, "write_video", write)
    with ThreadPoolExecutor(4) as pool:
        (made,) = set(pool.map(films.path, [clip] * 4))
    assert len(written) == 1
    frames = read_video(made, [0, 32, 64])
    assert frames.shape[1] == frames.shape[2] >= SHORT_SIDE and frames.shape[1] % 2 == 0
    true = read_video(path, [0, 32, 64])
    assert abs(frames.mean((1, 2)).astype(int) - true.mean((1, 2)).astype(int)).max() <= 4
    before = made.stat().st_mtime_ns
    assert films.path(clip) == made and made.stat().st_mtime_ns == before


# -- who may come in ------------------------------------------------------------------------------


def test_without_the_token_there_is_nothing(client: Client, labels: Labels) -> None:
    token = client.review.token
    assert len(token) >= 40
    for wrong in ("", "x", token[:-1], f"{token}x", token.swapcase(), "%ff", "é", "session"):
        for path in ("", "session", "review.js", NAME):
            answer = client.raw("GET", f"/{wrong}/{path}".replace("é", "%c3%a9"))
            assert answer.status == 404
            assert b"ada" not in answer.body and token.encode() not in answer.body
    body = b'{"labels": []}'
    ours = {"Content-Type": "application/json"}
    assert client.raw("POST", "/wrong/labels", body, ours).status == 404
    assert client.raw("GET", "/").status == client.raw("GET", "/session").status == 404


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1", ""),
        *("127.0.0.1:{port}.evil.example", "[::1]:{port}", "0.0.0.0:{port}"),
    ],
)
def test_a_name_that_only_resolves_to_us_is_refused(
    client: Client, labels: Labels, host: str
) -> None:
    named = {"Host": host.format(port=client.review.port)}
    assert client.get("session", named).status == 403
    statement = {"labels": [said(0, 0, "accept")]}
    assert client.post(statement, named | {"Origin": f"http://{named['Host']}"}).status == 403
    assert labels.read() == []


def test_our_own_names_are_not(client: Client) -> None:
    assert client.get("session", {"Host": f"localhost:{client.review.port}"}).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost:{port}"},  # another name of ours is another origin
        {"Origin": "https://127.0.0.1:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_cannot_post(client: Client, labels: Labels, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=client.review.port) for name, value in headers.items()}
    assert client.post({"labels": [said(0, 0, "accept")]}, sent).status == 403
    assert client.get("session", sent).status == 403
    assert labels.read() == []


def test_a_link_elsewhere_may_lead_to_the_page_and_to_nothing_else(client: Client) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    assert client.get("", link).status == 200
    assert client.get("", link | {"Sec-Fetch-Dest": "iframe"}).status == 403
    for path in ("session", "review.js", NAME):
        assert client.get(path, link).status == 403
    assert client.post({"labels": [said(0, 0, "accept")]}, link).status == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_what_a_form_can_send_is_refused(client: Client, labels: Labels, kind: str) -> None:
    assert client.post({"labels": [said(0, 0, "accept")]}, {"Content-Type": kind}).status == 415
    assert labels.read() == []


def test_no_preflight_is_answered(client: Client) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = client.raw("OPTIONS", f"/{client.review.token}/labels", headers=asked)
    assert answer.status in (403, 404, 405) and "Access-Control-Allow-Origin" not in answer.headers


def test_it_listens_to_this_machine_only(client: Client) -> None:
    assert client.review.url.startswith("http://127.0.0.1:")
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    for address in (one for one in others if not str(one).startswith("127.") and one != "::1"):
        with socket.socket(socket.AF_INET6 if ":" in str(address) else socket.AF_INET) as one:
            one.settimeout(2)
            assert one.connect_ex((address, client.review.port)) != 0


def test_a_taken_port_is_told(client: Client, layout: Layout) -> None:
    import asyncio

    async def again() -> None:
        async with review_of(layout, []).listening(client.review.port):
            raise AssertionError("two listen on one port")

    with pytest.raises(UserError, match=f"port {client.review.port} cannot be used"):
        asyncio.run(again())


# -- labels ---------------------------------------------------------------------------------------


def test_labels_are_stored_and_come_back(client: Client, labels: Labels) -> None:
    answer = client.post({"labels": [said(0, 0, "accept"), said(0, 1, "reject", "wrong_time")]})
    assert (answer.status, answer.json["saved"]) == (200, 2)
    found = {one.about: one for one in labels.standing()}
    assert found["s0-1", "b0-1"].kinds == ("wrong_time",)
    assert {one.reviewer for one in found.values()} == {"ada"}
    session = client.get("session").json["labels"]
    assert {one["segment"]: one["label"] for one in session} == {"s0-0": "accept", "s0-1": "reject"}
    client.post({"labels": [said(0, 0, "none")]})
    assert [one.about for one in labels.standing()] == [("s0-1", "b0-1")]
    assert len(labels.read()) == 3, "what was said stays"


def one(**changes: object) -> bytes:
    """A body with one statement that was right but for the changes."""
    about = {"segment": "s0-0", "binding": "b0-0", "label": "reject", "kinds": []}
    return json.dumps({"labels": [about | changes]}).encode()


BAD = [
    *(b"", b"{", b"\xff\xfe", b"[]", b"null", b"1e999", b"{}", b'{"labels": []}'),
    *(b'{"labels": [1]}', b'{"labels": {}}', b'{"labels": [{"segment": "s0-0"}]}', b"[" * 100_000),
    *(one(label="perhaps"), one(label=None), one(segment=3), one(reviewer="bob")),
    *(one(kinds="wrong_time"), one(kinds=["odd"]), one(kinds=["language", "language"])),
    one(label="accept", kinds=["language"]),
]


@pytest.mark.parametrize("body", BAD, ids=lambda body: body[:40].decode("latin-1"))
def test_nonsense_is_refused(client: Client, labels: Labels, body: bytes) -> None:
    assert client.post(one()).status == 200
    before = len(labels.read())
    answer = client.post(body)
    assert answer.status == 400
    assert answer.json["error"] and "Traceback" not in answer.body.decode()
    assert len(labels.read()) == before


def test_a_label_holds_for_the_caption_that_was_seen(client: Client, labels: Labels) -> None:
    other = {**said(0, 0, "accept"), "binding": "b0-1"}
    for wrong in (other, said(7, 0, "accept"), said(0, 2, "accept")):  # s0-2 has no caption
        answer = client.post({"labels": [said(0, 0, "accept"), wrong]})
        assert answer.status == 409, wrong
    assert labels.read() == [], "all or none"


def test_too_large_a_body_is_refused(client: Client, labels: Labels) -> None:
    filler = b" " * MOST_BYTES
    assert client.post(filler + b"{}").status == 413
    parts = b"%x\r\n%s\r\n0\r\n\r\n" % (len(filler) + 1, filler + b" ")
    assert client.post(parts, {"Transfer-Encoding": "chunked"}).status == 413
    many = {"labels": [said(0, 0, "accept")] * 1001}
    assert client.post(many).status == 400
    assert labels.read() == []


def test_many_at_once_are_all_kept(client: Client, labels: Labels) -> None:
    def post(number: int) -> int:
        judged = said(number % 2, (0, 1, 3)[number % 3], ("accept", "reject", "none")[number % 3])
        return client.post({"labels": [judged]}).status

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(post, range(60))) == {200}
    found = labels.read()
    assert len(found) == 60 and len({one.at for one in found}) == 60, "each has its own moment"


def test_a_disk_that_refuses_is_told_and_the_next_try_goes_well(
    client: Client, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Labels, some: object) -> None:
        raise OSError(28, "No space left on device")

    client.post({"labels": [said(0, 0, "reject")]})
    before = client.get("session").json["labels"]
    with monkeypatch.context() as patch:
        patch.setattr(Labels, "write", full)
        answer = client.post({"labels": [said(0, 0, "accept")]})
        assert answer.status == 500 and "No space left" in answer.json["error"]
        assert client.get("session").json["labels"] == before, "not stored is not said"
    assert client.post({"labels": [said(0, 0, "accept")]}).status == 200


def test_an_open_connection_keeps_nobody_waiting(client: Client) -> None:
    """One that sends half a request, while another asks."""
    with socket.create_connection(("127.0.0.1", client.review.port)) as slow:
        slow.sendall(f"POST /{client.review.token}/labels HTTP/1.1\r\nHost: ".encode())
        done = threading.Event()
        threading.Thread(target=lambda: (client.get("session"), done.set())).start()
        assert done.wait(20)
