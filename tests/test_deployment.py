"""The image and the Kubernetes job are of one piece with the rest; neither can be run here.

The fields are those of KubeRay 1.5.1 (`ray-operator/apis/ray/v1`) and of Kubernetes' pods.
"""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from pipeline.cli import app
from pipeline.recipe import find_config

ROOT = Path(__file__).resolve().parents[1]
DOCKER = (ROOT / "Dockerfile").read_text()
MAKE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLUSTER = ROOT / "docs" / "cluster.md"
JOB = ROOT / "docs" / "cluster" / "rayjob.yaml"

CONTAINER = {
    "name": str,
    "image": str,
    "ports": list,
    "resources": dict,
    "envFrom": list,
    "volumeMounts": list,
}
POD = {"containers": list, "volumes": list, "securityContext": dict, "tolerations": list}
GROUP = {"rayStartParams": dict, "template": dict}
WORKERS = {**GROUP, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}
CLUSTER_SPEC = {
    "rayVersion": str,
    "authOptions": dict,
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": dict,
    "headGroupSpec": dict,
    "workerGroupSpecs": list,
}
JOB_SPEC = {
    "entrypoint": str,
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "rayClusterSpec": dict,
}


def lines(instruction: str) -> list[str]:
    """What stands behind an instruction of the Dockerfile, continued lines joined."""
    joined = DOCKER.replace("\\\n", " ")
    return [text for word, _, text in map(split, joined.splitlines()) if word == instruction]


def split(line: str) -> tuple[str, str, str]:
    return line.partition(" ")


def test_the_image_copies_what_is_there_and_what_the_wheel_needs() -> None:
    arguments = dict(text.split("=", 1) for text in lines("ARG"))
    sources = [name for text in lines("COPY") for name in text.split()[:-1]]
    sources = [arguments[name[2:-1]] if name.startswith("${") else name for name in sources]
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.M)
    for name in sources:
        assert (ROOT / name).exists(), name
        assert any(Path(name).match(pattern) for pattern in allowed), f"{name} is ignored"
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(wheel) <= set(sources)
    assert {PROJECT["project"]["readme"], "pyproject.toml"} <= set(sources)


def test_the_image_installs_as_the_makefile_does() -> None:
    arguments = dict(text.split("=", 1) for text in lines("ARG"))
    assert f"UV := {arguments['UV']}\n" in MAKE
    assert arguments["LOCK"] == "requirements.lock"
    flags = ["--no-deps", "--compile-bytecode", "--quiet"]
    made = re.search(r"uv pip install (.*?)-r requirements.lock", MAKE.replace("\\\n", " "))
    assert made is not None
    installs = [text for text in lines("RUN") if "uv pip install" in text]
    assert len(installs) == 2
    for flag in flags:
        assert flag in made[1]
        assert all(flag in text for text in installs)


def test_the_image_runs_our_command_as_nobody_special() -> None:
    assert lines("USER") == ["tv2tv"]
    (entrypoint,) = lines("ENTRYPOINT")
    assert json.loads(entrypoint)[0] in PROJECT["project"]["scripts"]
    (base,) = lines("FROM")
    wanted = re.search(r">=(\d+)\.(\d+)", PROJECT["project"]["requires-python"])
    had = re.search(r"python:(\d+)\.(\d+)", base)
    assert wanted is not None and had is not None
    assert tuple(map(int, had.groups())) >= tuple(map(int, wanted.groups()))


def has_only(found: dict[str, Any], known: dict[str, type], needed: set[str] | None = None) -> None:
    for name, value in found.items():
        assert type(value) is known[name], f"{name}: {value!r}"
    assert (set(known) if needed is None else needed) <= set(found)


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    claim, job = yaml.safe_load_all(JOB.read_text())
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job) == {"apiVersion", "kind", "metadata", "spec"}
    has_only(job["spec"], JOB_SPEC)
    has_only(job["spec"]["rayClusterSpec"], CLUSTER_SPEC)
    found: dict[str, Any] = job["spec"]
    return found


def test_the_job_runs_a_command_that_there_is(job: dict[str, Any]) -> None:
    program, *arguments = shlex.split(job["entrypoint"])
    assert program == "tv2tv"
    parse(arguments)


def test_the_cluster_has_our_ray_a_token_and_an_autoscaler(job: dict[str, Any]) -> None:
    cluster = job["rayClusterSpec"]
    assert f"ray[data,default]=={cluster['rayVersion']}" in PROJECT["project"]["dependencies"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    options = cluster["autoscalerOptions"]
    has_only(options, {"version": str, "idleTimeoutSeconds": int, "resources": dict})
    assert options["version"] == "v2"


def groups(job: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Each group with its pod and its container."""
    cluster = job["rayClusterSpec"]
    has_only(cluster["headGroupSpec"], GROUP)
    for group in cluster["workerGroupSpecs"]:
        has_only(group, WORKERS)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group["template"]) == {"spec"}
        pod = group["template"]["spec"]
        has_only(pod, POD, {"containers", "volumes", "securityContext"})
        (container,) = pod["containers"]
        has_only(container, CONTAINER, set(CONTAINER) - {"ports"})
        yield group, pod, container


def test_pods_share_the_volume_and_have_room_for_the_object_store(job: dict[str, Any]) -> None:
    images = set()
    for group, pod, container in groups(job):
        images.add(container["image"])
        assert all(isinstance(text, str) for text in group["rayStartParams"].values())
        resources = container["resources"]
        assert resources["limits"] == resources["requests"], "Ray sees the limits only"
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounts.values()) == set(volumes)
        assert "persistentVolumeClaim" in volumes[mounts["/data"]]
        shared = volumes[mounts["/dev/shm"]]["emptyDir"]  # noqa: S108 - a mount of pods
        assert shared["medium"] == "Memory"
        store = int(group["rayStartParams"]["object-store-memory"])
        assert store < int(shared["sizeLimit"].removesuffix("Gi")) * 2**30
    assert len(images) == 1, "one image for all"
    head, cpu, gpu = (container["resources"]["limits"] for _, _, container in groups(job))
    assert "nvidia.com/gpu" not in head | cpu
    assert gpu["nvidia.com/gpu"] == "1"


def parse(arguments: list[str]) -> None:
    """Let the command line read them, and do nothing."""
    command: Any = typer.main.get_command(app)
    name, *rest = arguments
    context = command.commands[name].make_context(name, rest)
    if name == "run" and not context.params["recipe"].startswith("."):
        find_config(context.params["recipe"], "recipe")


def test_the_page_names_commands_and_files_that_there_are() -> None:
    text = CLUSTER.read_text()
    blocks = "".join(re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)).replace("\\\n", " ")
    seen = 0
    for line in blocks.splitlines():
        words = shlex.split(line, comments=True)
        for head in (["tv2tv"], ["python", "-m", "pipeline.cli"]):
            for at in range(len(words)):
                if words[at : at + len(head)] == head:
                    parse(words[at + len(head) :])
                    seen += 1
    assert seen >= 6
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("http") or (CLUSTER.parent / target).exists(), target
