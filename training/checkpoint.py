"""Checkpoints: a run at one step as a folder of plain files, whole or absent.

::

    checkpoints/step-00000500/
      model.json, model.safetensors   the averaged weights: a model that `load_model` opens
      training.safetensors            the weights themselves and the optimizer's moments
      state.json                      step, position in the data, the machine, SHA-256 of the files

The folder is written beside its place, synced, and renamed, and moved away before it is removed:
one that is there is whole.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from corpus.errors import UserError
from corpus.files import remove_folder, write_text, writing, writing_folder
from corpus.ids import sha256_file
from training.loader import Position
from training.optimise import State
from training.weights import CONFIG_NAME, WEIGHTS_NAME, save_model

SCHEMA = 1
STATE, TRAINING = "state.json", "training.safetensors"
HELD = (CONFIG_NAME, WEIGHTS_NAME, TRAINING)
NAME = re.compile(r"step-(\d{8,})")


def save(folder: Path, state: State, lengths: str, keep: int) -> Path:
    """Store a run's state, unless its step is stored already, and drop older checkpoints.

    Args:
        folder: of all checkpoints of the run.
        lengths: fingerprint of the length index that the position belongs to.
        keep: checkpoints to leave, this one included.
    """
    place = folder / f"step-{state.step:08d}"
    if not place.exists():
        with writing_folder(place) as building:
            _write(building, state, lengths)
    for old in checkpoints(folder)[:-keep]:
        remove_folder(old)
    return place


def checkpoints(folder: Path) -> list[Path]:
    """All whole checkpoints, oldest first."""
    found = [path for path in folder.glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint."""
    return next(reversed(checkpoints(folder)), None)


def restore(place: Path, state: State, lengths: str) -> list[str]:
    """Put a checkpoint into a fresh state; what follows is as if the run had never stopped.

    Returns:
        What of the machine differs: with any of it, this holds only up to rounding.

    Raises:
        UserError: a file is damaged, or the checkpoint belongs to other data or another model.
    """
    head = read_state(place)
    if head["lengths"] != lengths:
        raise UserError(
            f"{place}: the shards, captions or tokenizer are not those of this run: "
            "train in a new folder, or give the shards that it began with"
        )
    try:
        stored = load_file(place / TRAINING)
        average = load_file(place / WEIGHTS_NAME)
        _fill(state, stored, average)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise UserError(f"{place} does not fit this run: {error}") from error
    state.step = head["step"]
    state.position = Position(**head["position"])
    before = head["machine"]
    return [
        f"{name} {value} (before: {before[name]})"
        for name, value in machine(state).items()
        if value != before[name]
    ]


def machine(state: State) -> dict[str, Any]:
    """What decides the last digits of a run: torch, the kind of processor, threads of the CPU."""
    device = next(state.model.parameters()).device
    cpu = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "threads": torch.get_num_threads(),
    }


def read_state(place: Path) -> dict[str, Any]:
    """The state of a checkpoint, its files checked against their SHA-256."""
    try:
        head: dict[str, Any] = json.loads((place / STATE).read_text(encoding="utf-8"))
        if head["schema"] != SCHEMA:
            raise UserError(f"{place} has schema {head['schema']}; this version reads {SCHEMA}")
        damaged = [name for name in HELD if sha256_file(place / name) != head["files"][name]]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{place} cannot be read ({error!r}): {_WAY_OUT}") from error
    if damaged:
        raise UserError(f"{place}: {', '.join(damaged)} changed since it was written: {_WAY_OUT}")
    return head


_WAY_OUT = "delete it to go on from the one before"


def _write(folder: Path, state: State, lengths: str) -> None:
    save_model(state.model, folder, state.average)
    with writing(folder / TRAINING) as temporary:
        save_file(_flat(state), temporary)
    head = {
        "schema": SCHEMA,
        "step": state.step,
        "position": {"epoch": state.position.epoch, "step": state.position.step},
        "lengths": lengths,
        "machine": machine(state),
        "files": {name: sha256_file(folder / name) for name in HELD},
    }
    write_text(folder / STATE, json.dumps(head, indent=2) + "\n")


def _flat(state: State) -> dict[str, Tensor]:
    """Weights as ``weight/NAME`` and the optimizer's tensors as ``exp_avg/NAME`` and so on."""
    flat: dict[str, Tensor] = {}
    for name, parameter in state.model.named_parameters():
        flat[f"weight/{name}"] = parameter.detach().contiguous()
        for kind, value in state.memory(parameter).items():
            flat[f"{kind}/{name}"] = value.contiguous()
    return flat


def _fill(state: State, stored: dict[str, Tensor], average: dict[str, Tensor]) -> None:
    parameters = dict(state.model.named_parameters())
    unknown = {name.partition("/")[2] for name in stored} ^ set(parameters)
    if unknown or set(average) != set(state.average):
        raise RuntimeError(f"it holds another model ({', '.join(sorted(unknown)[:3])})")
    for key, value in stored.items():
        kind, _, name = key.partition("/")
        parameter = parameters[name]
        if kind == "weight":
            with torch.no_grad():
                parameter.copy_(value)
        else:
            state.memory(parameter)[kind] = value.to(parameter.device)
    for name, value in average.items():
        state.average[name].copy_(value)
