"""Joining a Ray cluster that is there: which one, and saying clearly why not.

Ray by itself takes minutes to notice that nobody listens, twenty seconds to say "failed to connect"
where a token is missing, picks any of several clusters for ``auto``, and ends the process without a
word of the run when the head is gone. So the address is dialled first and watched while it is used.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import ray
from ray._private import services

from corpus.errors import UserError
from pipeline.cluster.signals import interrupts_later

ADDRESS = "RAY_ADDRESS"  # Ray's own variable
AUTO, LOCAL, CLIENT = "auto", "local", "ray://"
DIAL_SECONDS = 5.0
WATCH_SECONDS = 2.0
RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # Ray's own: 60 unless it is set
MARGIN_SECONDS = 10.0  # how long before Ray gives up, and ends the process, we do


def find_address(given: str | None) -> str | None:
    """The address of the cluster to join; None for a Ray of our own.

    What is given counts; ``local`` is a Ray of our own. Without it, and for ``auto``, the variable
    ``RAY_ADDRESS`` counts. ``auto`` without the variable is the cluster of this machine.

    Raises:
        UserError: it is no address, or ``auto`` finds none or several.
    """
    said = given or os.environ.get(ADDRESS) or LOCAL
    if said == AUTO:
        said = os.environ.get(ADDRESS) or AUTO
    origin = "--address" if given and given == said else ADDRESS
    if said == LOCAL:
        return None
    if said == AUTO:
        _check_only_one()
        return AUTO
    if said.startswith(("http://", "https://")):
        raise UserError(
            f"{origin}={said} is where jobs are submitted (`ray job submit`); a run joins a "
            "cluster at HOST:6379 or ray://HOST:10001, or starts a Ray of its own with "
            "--address local"
        )
    if _host_and_port(said) is None:
        raise UserError(
            f"{origin}={said} is no address of a Ray cluster: give auto, local, HOST:PORT "
            "(usually port 6379) or ray://HOST:PORT (usually port 10001)"
        )
    return said


@contextmanager
def joined(address: str, screen: int, *, log_to_driver: bool, logging_level: int) -> Iterator[None]:
    """Be a driver of the cluster at ``address``, as `find_address` gave it.

    A head that is lost ends this process with status 1 and a message: what Ray does, too, but
    without a message and later. Through ``ray://`` an exception says so.

    Args:
        screen: a file descriptor for that message; 2 may be turned to a log.

    Raises:
        UserError: nobody answers, or the cluster refuses us.
    """
    where = next(iter(_found())) if address == AUTO else address
    _dial(where)
    try:
        with interrupts_later():
            # `auto` stays `auto` for Ray: only then does it use this user's token by itself.
            ray.init(address=address, log_to_driver=log_to_driver, logging_level=logging_level)
    except Exception as error:
        raise UserError(_why_not(where, error)) from error
    try:
        if is_client():
            yield
        else:
            with _watched(where, screen):
                yield
    finally:
        with interrupts_later():
            ray.shutdown()


def is_client() -> bool:
    """Whether this process is a client of a cluster (``ray://``), not a driver."""
    return bool(ray.util.client.ray.is_connected())


def _found() -> list[str]:
    """Addresses of the clusters that this machine belongs to; one alone if `ray start` named it."""
    running = sorted(services.find_gcs_addresses())
    named = services.find_bootstrap_address(None)
    return [named] if named in running else running


def _check_only_one() -> None:
    found = _found()
    if not found:
        raise UserError(
            "--address auto finds no Ray on this machine: start one with `ray start --head`, "
            "name another with --address HOST:PORT, or leave --address away"
        )
    if len(found) > 1:
        raise UserError(
            f"--address auto finds several Rays on this machine ({', '.join(found)}): "
            "name one with --address HOST:PORT"
        )


def _host_and_port(address: str) -> tuple[str, int] | None:
    text = address.removeprefix(CLIENT)
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    plain = host is not None and port is not None and text == parts.netloc and "@" not in text
    return (host, port) if plain and host and port else None


def _dial(address: str) -> None:
    place = _host_and_port(address)
    assert place is not None  # noqa: S101 - find_address has checked it
    try:
        socket.create_connection(place, DIAL_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"nobody answers at {address} ({error.strerror or error}): is the cluster up, and can "
            "this machine reach that port?"
        ) from error


def _why_not(address: str, error: Exception) -> str:
    """What a cluster's refusal means, and the way out."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and isinstance(cause, Exception):
        chain.append(cause)
    text = " ".join(" ".join(str(one).split()) for one in chain)
    head = f"the Ray at {address} cannot be joined"
    if "authentica" in text.lower() or "AuthToken" in text:
        return (
            f"{head}: it asks for a token that this process does not have. Set RAY_AUTH_MODE=token "
            "and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) to what the head was started with"
        )
    if "Version mismatch" in text:
        said = text[text.index("Version mismatch") :].partition(" Traceback")[0]
        return f"{head}. {said}: run with the same Ray and the same Python as the cluster"
    if "raylet" in text.lower() and not address.startswith(CLIENT):
        return (
            f"{head}: this machine is no node of it. Run on one, or through "
            "`ray job submit`, or with --address ray://HOST:10001"
        )
    return f"{head}: {text[:500]}"


@contextmanager
def _watched(address: str, screen: int) -> Iterator[None]:
    """End the process if the head does not answer for nearly as long as Ray is patient.

    Ray's native part ends the process when its patience is over, wherever Python is, and until
    then every call waits: there is no way back that an exception could take. The corpus' lock is
    taken over by the next run, since its owner is gone.
    """
    place = _host_and_port(address)
    patience = max(MARGIN_SECONDS, float(os.environ.get(RECONNECT, 60)) - MARGIN_SECONDS)
    done = threading.Event()

    def watch() -> None:
        seen = time.monotonic()
        while not done.wait(WATCH_SECONDS):
            try:
                socket.create_connection(place or ("", 0), DIAL_SECONDS).close()
                seen = time.monotonic()
            except OSError:
                if time.monotonic() - seen > patience:
                    os.write(screen, f"\ntv2tv: {lost(address)}\n".encode())
                    os._exit(1)

    thread = threading.Thread(target=watch, name="cluster-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def lost(address: str) -> str:
    return (
        f"lost the connection to the Ray at {address}: its head is gone or out of reach. "
        "What is done stays: when the cluster is back, run the same command again"
    )
