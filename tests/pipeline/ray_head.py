"""A Ray head or a small cluster for one test: own folder, own ports, own token, ended by process.

`ray stop` would end every Ray of this machine, and `ray.cluster_utils.Cluster` names its address in
the folder of `RAY_TMPDIR`, where every later `ray.init()` finds it: so that is the test's own.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 120.0
NODES = """
import sys, time
from ray.cluster_utils import Cluster

folder, *cpus = sys.argv[1:]
parts = [{"num_cpus": int(each), "temp_dir": folder + "/ray", "object_store_memory": 10**8,
          "env_vars": {"TV2TV_TEST_NODE": str(number)}} for number, each in enumerate(cpus)]
cluster = Cluster(initialize_head=True, head_node_args={**parts[0], "include_dashboard": False})
for part in parts[1:]:
    cluster.add_node(**part)
print("address", cluster.address, flush=True)
time.sleep(3600)
"""


@dataclass(frozen=True)
class Running:
    """A cluster of the test's own.

    Attributes:
        folder: everything that belongs to it names this folder on its command line.
        address: HOST:PORT, to join.
        jobs, client: where jobs are submitted, and clients connect; "" if nowhere.
        environment: with the token; for drivers.
    """

    folder: Path
    address: str
    jobs: str
    client: str
    environment: dict[str, str]

    def kill(self, what: str) -> None:
        """End one kind of its processes at once."""
        for pid, line in _processes(self.folder):
            if what in line:
                os.kill(pid, signal.SIGKILL)


@contextmanager
def head(cpus: int) -> Iterator[Running]:
    """`ray start --head` with a dashboard, jobs and clients."""
    with _folder() as folder:
        port, dashboard, agent, client = _free_ports(4)
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
        command += [f"--temp-dir={folder}/ray", f"--port={port}", f"--num-cpus={cpus}"]
        command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        command += [f"--dashboard-agent-listen-port={agent}"]
        command += [f"--ray-client-server-port={client}", "--object-store-memory=200000000"]

        def running(line: str) -> Running | None:
            if "ray start --address='" not in line:
                return None
            address = line.partition("--address='")[2].partition("'")[0]
            jobs, door = f"http://127.0.0.1:{dashboard}", f"ray://127.0.0.1:{client}"
            return Running(folder, address, jobs, door, _environment(folder))

        with _started(command, folder, running) as found:
            _until_it_answers(dashboard)
            yield found


@contextmanager
def machines(*cpus: int) -> Iterator[Running]:
    """Several nodes on this machine; each has its number in the variable TV2TV_TEST_NODE."""
    with _folder() as folder:
        command = [sys.executable, "-c", NODES, str(folder), *map(str, cpus)]

        def running(line: str) -> Running | None:
            word, _, address = line.partition(" ")
            environment = _environment(folder)
            return Running(folder, address, "", "", environment) if word == "address" else None

        with _started(command, folder, running) as found:
            yield found


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))  # sockets want short names
    (folder / "token").write_text("0123456789abcdef" * 4)
    try:
        yield folder
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid, _ in _processes(folder):
                os.kill(pid, number)
            end = time.monotonic() + 10
            while _processes(folder) and time.monotonic() < end:
                time.sleep(0.2)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    known = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    return {**known, **token, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


@contextmanager
def _started(
    command: list[str], folder: Path, running: Callable[[str], Running | None]
) -> Iterator[Running]:
    """Start it, and wait for the line of its output that says where it is."""
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**_environment(folder), "RAY_TMPDIR": str(folder), "NO_COLOR": "1"},
            start_new_session=True,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            for line in log.read_text().splitlines():
                if (found := running(line)) is not None:
                    yield found
                    return
            time.sleep(0.3)
        raise AssertionError(f"no Ray: {log.read_text()}")
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_it_answers(port: int) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"nothing answers at port {port}")


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _processes(folder: Path) -> list[tuple[int, str]]:
    """Processes that name a folder on their command line, with that line."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile
        if f"{folder}/" in line or f"{folder} " in line:
            found.append((int(path.name), line))
    return [(pid, line) for pid, line in found if pid != os.getpid()]
