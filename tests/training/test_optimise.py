"""One step does what it says: clip, decay, step, average."""

import math
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from layouts import small_model

from training.config import OptimizerConfig
from training.model import parameter_groups
from training.optimise import Outcome, State, averaged, fresh, gradient_norms, update

KINDS: tuple[Literal["adamw", "muon"], ...] = ("adamw", "muon")


def state_of(gradient: Callable[[torch.Tensor], torch.Tensor], **config: Any) -> State:
    """A fresh state whose parameters have gradients made from their values."""
    state = fresh(small_model(), OptimizerConfig(**config))
    for parameter in state.model.parameters():
        parameter.grad = gradient(parameter.detach())
    return state


def stepped(state: State, rate: float, **config: Any) -> dict[str, torch.Tensor]:
    """Take one step; gives the weights from before it."""
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    outcome = Outcome({}, gradient_norms(parameter_groups(state.model)))
    update(state, outcome, rate, OptimizerConfig(**config))
    return before


def norm(state: State) -> float:
    return math.sqrt(sum(float(p.grad.square().sum()) for p in state.model.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_one_optimizer(kind: str) -> None:
    state = state_of(torch.ones_like, kind=kind)
    held = [
        id(parameter)
        for optimizer in state.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(held) == sorted(id(parameter) for parameter in state.model.parameters())
    before = stepped(state, 0.01, kind=kind)
    for name, parameter in state.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        assert state.memory(parameter), name


def test_a_long_gradient_is_cut_to_length_and_a_short_one_is_left() -> None:
    state = state_of(torch.ones_like)
    before = [parameter.grad.clone() for parameter in state.model.parameters()]
    length = norm(state)
    stepped(state, 0.01, clip=length / 4)
    assert norm(state) == pytest.approx(length / 4, rel=1e-4)
    for parameter, gradient in zip(state.model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.grad, gradient / 4)
    state = state_of(torch.ones_like)
    stepped(state, 0.01, clip=length * 1.01)
    assert all((parameter.grad == 1).all() for parameter in state.model.parameters())


def test_the_first_step_of_adamw_is_as_long_as_the_rate() -> None:
    """Whatever the gradient's size; the rate is that of this step, not the config's peak."""
    state = state_of(lambda value: 1e-2 * value.sign(), lr=1.0, weight_decay=0.0)
    before = stepped(state, 0.01, lr=1.0, weight_decay=0.0, clip=1e9)
    for name, parameter in state.model.named_parameters():
        expected = before[name] - 0.01 * before[name].sign()
        torch.testing.assert_close(parameter.detach(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_only_matrices_decay(kind: str) -> None:
    state = state_of(torch.zeros_like, kind=kind, weight_decay=0.5)
    before = stepped(state, 0.01, kind=kind, weight_decay=0.5)
    axes = set()
    for name, parameter in state.model.named_parameters():
        kept = 1 - 0.01 * 0.5 if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * kept)
        axes.add(parameter.ndim)
    assert axes >= {1, 2, 4}


@pytest.mark.parametrize(("step", "decay"), [(0, 2 / 11), (8, 10 / 19), (10_000, 0.9)])
def test_the_average_follows_the_weights(step: int, decay: float) -> None:
    """Quickly at first, for a short run must not average in its random beginning."""
    state = state_of(torch.ones_like, ema=0.9)
    state.step = step
    before = stepped(state, 0.1, ema=0.9)
    assert state.step == step + 1
    for name, now in state.model.state_dict().items():
        expected = decay * before[name] + (1 - decay) * now
        torch.testing.assert_close(state.average[name], expected)
    model = averaged(state)
    assert all(torch.equal(v, state.average[n]) for n, v in model.state_dict().items())
