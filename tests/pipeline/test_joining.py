"""Which cluster is joined, and what is said where none can be."""

import socket

import pytest

from corpus.errors import UserError
from pipeline.cluster import joining
from pipeline.cluster.joining import AUTO, find_address, joined


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        (None, None, None),
        (None, "", None),
        (None, "head:6379", "head:6379"),
        ("other:6379", "head:6379", "other:6379"),
        ("local", "head:6379", None),
        (None, "local", None),
        ("auto", "head:6379", "head:6379"),
        ("auto", "local", None),
        ("ray://head:10001", None, "ray://head:10001"),
        ("[::1]:6379", None, "[::1]:6379"),
    ],
)
def test_what_is_given_counts_then_the_variable(
    given: str | None, variable: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert find_address(given) == expected


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "a:b:c", "user@head:6379", "h:1/x"])
def test_what_is_no_address_is_refused_and_named(address: str) -> None:
    with pytest.raises(UserError, match=r"--address=.*is no address"):
        find_address(address)


def test_the_address_for_jobs_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(UserError, match="RAY_ADDRESS=http://head:8265 is where jobs are submitted"):
        find_address(None)


def clusters(monkeypatch: pytest.MonkeyPatch, running: set[str], named: str | None) -> None:
    monkeypatch.setattr(joining.services, "find_gcs_addresses", lambda: frozenset(running))
    monkeypatch.setattr(joining.services, "find_bootstrap_address", lambda folder: named)


def test_auto_takes_no_cluster_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    clusters(monkeypatch, set(), None)
    with pytest.raises(UserError, match="finds no Ray on this machine"):
        find_address("auto")
    clusters(monkeypatch, {"a:1", "b:2"}, None)
    with pytest.raises(UserError, match=r"several Rays on this machine \(a:1, b:2\)"):
        find_address("auto")
    clusters(monkeypatch, {"a:1", "b:2"}, "b:2")
    assert find_address("auto") == AUTO
    clusters(monkeypatch, {"a:1"}, "gone:3")
    assert find_address("auto") == AUTO


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, but nobody listens
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with (
            pytest.raises(UserError, match=f"nobody answers at {address}"),
            joined(address, 2, log_to_driver=False, logging_level=40),
        ):
            pass


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("Unauthenticated: RPC error: InvalidAuthToken: missing", "set RAY_AUTH_MODE=token"),
        ("RAY_AUTH_TOKEN_PATH is set: token authentication", "set RAY_AUTH_MODE=token"),
        ("Version mismatch: The cluster was started with: Ray: 2.1", "Ray: 2.1: run with the same"),
        ("cannot find a local Raylet with the same address", "this machine is no node of it"),
        ("something else", "something else"),
    ],
)
def test_a_refusal_is_explained_from_its_cause(raised: str, said: str) -> None:
    try:
        try:
            raise RuntimeError(raised)
        except RuntimeError as error:
            raise ConnectionError("Failed to connect to Ray cluster") from error
    except ConnectionError as error:
        text = joining._why_not("head:6379", error)
    assert text.startswith("the Ray at head:6379 cannot be joined")
    assert said.lower() in text.lower()
