"""The training loop."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from corpus.errors import UserError
from training.config import RunConfig
from training.loader import Loader, Step
from training.metrics import MetricsLog, Progress
from training.optimise import Outcome, State, backward, learning_rate, update
from training.rows import Batch

NAMED = 8  # samples of a broken step that its message names
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # the last is what schedulers send
Result = TypeVar("Result")


def fit(
    state: State,
    loader: Loader,
    config: RunConfig,
    log: MetricsLog,
    save: Callable[[State], object],
    film: Callable[[State], object],
) -> None:
    """Train from ``state`` to the last step.

    Args:
        save: stores a checkpoint.
        film: makes a sample film of the model as it is.

    Raises:
        UserError: a loss or gradient is not finite; the weights are those of the step before.
        SystemExit: one of `STOPPING` came; the step under way was finished and stored.
    """
    runtime, device = config.runtime, next(state.model.parameters()).device
    progress = Progress(config.steps, state.step)
    state.model.train()
    with Stop() as stop, contextlib.closing(loader.steps(state.position)) as steps:
        while state.step < config.steps:
            begun = time.perf_counter()
            step = stop.wait_for(partial(next, steps))
            if step is not None:
                rate = learning_rate(state.step, config)
                batches = [batch.to(device) for batch in step.batches]
                outcome = backward(state.model, batches, config.loss)
                if not outcome.finite:
                    raise UserError(_not_finite(state, step, outcome))
                update(state, outcome, rate, config.optimizer)
                state.position = step.following
                row = metrics(state, step, outcome, rate, time.perf_counter() - begun)
                log.write(row)
                progress.show(row)
            last = state.step == config.steps
            if stop.signal is not None or last or state.step % runtime.save_every == 0:
                save(state)
            if stop.signal is not None and not last:
                raise SystemExit(128 + stop.signal)
            if runtime.sample_every and (last or state.step % runtime.sample_every == 0):
                film(state)


class Stop:
    """Notes the signals that stop a run, for the loop to end where nothing is half done.

    A second signal acts as it did before. Outside the main thread signals are left alone.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def wait_for(self, action: Callable[[], Result]) -> Result | None:
        """What an action gives; None if a signal came, which ends the wait or spares it."""
        try:
            self._waiting = True
            result = None if self.signal is not None else action()
            self._waiting = False
        except _Interrupted:
            return None
        finally:
            self._waiting = False
        return result

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self._before[number])
        if self._waiting:
            self._waiting = False
            raise _Interrupted


class _Interrupted(Exception):
    """A signal came while the loop waited for data."""


def metrics(
    state: State, step: Step, outcome: Outcome, rate: float, seconds: float
) -> dict[str, Any]:
    """The line of one finished step: losses, gradient norms, speed and how well rows are filled."""
    tokens = [count_tokens(batch) for batch in step.batches]
    return {
        "step": state.step,
        "epoch": step.position.epoch,
        "loss": outcome.losses,
        "lr": rate,
        "grad_norm": outcome.norms,
        "tokens_per_second": {
            name: round(sum(each[name] for each in tokens) / seconds, 1) for name in tokens[0]
        },
        "seconds": round(seconds, 4),
        "wait": round(step.waited / seconds, 4),
        "fill": step.fill,
    }


def count_tokens(batch: Batch) -> dict[str, int]:
    """Tokens of a batch that are no padding, by part."""
    used = batch.meta.document >= 0
    text, clean = batch.text.shape[1], batch.shown.shape[1]
    blocks = clean + batch.clean.shape[1]
    edge = text + (used.shape[1] - text) // blocks * clean
    parts = {"text": used[:, :text], "clean": used[:, text:edge], "noisy": used[:, edge:]}
    return {name: int(part.sum()) for name, part in parts.items()}


def _not_finite(state: State, step: Step, outcome: Outcome) -> str:
    losses = ", ".join(f"{name} {outcome.losses[name]}" for name in ("text", "video"))
    keys = step.keys
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return (
        f"step {state.step + 1}: the loss or its gradient is not finite ({losses}; gradient norm "
        f"{outcome.norms['total']}) with samples {', '.join(keys[:NAMED])}{more}. Nothing of this "
        "step was applied. Look at these samples, or begin a run with a lower optimizer.lr; "
        "--resume goes on from the last checkpoint"
    )
