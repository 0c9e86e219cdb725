"""What changes while a run trains, and how one step changes it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from training.config import LossConfig, OptimizerConfig, RunConfig
from training.loader import Position
from training.losses import losses
from training.model import TV2TV, parameter_groups
from training.rows import Batch

EPSILON = 1e-6
MATRIX = 2  # axes; only matrices decay, gains, biases and kernels do not


@dataclass
class State:
    """All that a checkpoint must hold.

    Attributes:
        optimizers: each parameter belongs to one of them.
        average: moving average of the weights, by name; what `generate` uses.
        step: optimizer steps done.
        position: the next step's place in the data.
    """

    model: TV2TV
    optimizers: tuple[torch.optim.Optimizer, ...]
    average: dict[str, Tensor]
    step: int = 0
    position: Position = field(default_factory=Position)

    def memory(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What the parameter's optimizer remembers of it, by name; filled by its first step."""
        for optimizer in self.optimizers:
            if any(parameter is one for group in optimizer.param_groups for one in group["params"]):
                return optimizer.state[parameter]
        raise KeyError("no optimizer has this parameter")


@dataclass(frozen=True)
class Outcome:
    """What one step measured.

    Attributes:
        parts: sum and count of each loss and its parts.
        norms: gradient norm by parameter group, and ``total``, before clipping.
    """

    parts: dict[str, tuple[float, int]]
    norms: dict[str, float]

    @property
    def losses(self) -> dict[str, float | None]:
        """Means; None where this step had nothing of the kind."""
        return {
            name: total / count if count else None for name, (total, count) in self.parts.items()
        }

    @property
    def finite(self) -> bool:
        values = [total for total, _ in self.parts.values()]
        return all(map(math.isfinite, [*values, *self.norms.values()]))


def fresh(model: TV2TV, config: OptimizerConfig) -> State:
    """The state of a run before its first step."""
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return State(model, optimizers(model, config), average)


def optimizers(model: TV2TV, config: OptimizerConfig) -> tuple[torch.optim.Optimizer, ...]:
    """AdamW for all, or Muon for the matrices within and AdamW for the rest.

    Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest orthogonal matrix,
    here scaled to the size of AdamW's steps, so that both share one learning rate (Liu et al.
    2025, arXiv:2502.16982, section 2.2). It is made for maps between features: embeddings and
    heads stay with AdamW.
    """
    ends = {id(p) for part in model.ends() for p in part.parameters()}
    within = [p for p in model.parameters() if p.ndim == MATRIX and id(p) not in ends]
    if config.kind == "adamw":
        within = []
    taken = set(map(id, within))
    rest = [p for p in model.parameters() if id(p) not in taken]
    adamw = torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.ndim == MATRIX], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.ndim != MATRIX], "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=config.betas,
        fused=True,
    )
    if not within:
        return (adamw,)
    muon = torch.optim.Muon(
        within,
        lr=config.lr,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return muon, adamw


def averaged(state: State) -> TV2TV:
    """A model of the averaged weights on the CPU, where films are made; it may share them."""
    with torch.device("meta"):
        model = TV2TV(state.model.config)
    model.load_state_dict(state.average, assign=True)
    return model.cpu().eval()


def learning_rate(step: int, config: RunConfig) -> float:
    """Linear warm-up, constant, then a linear way down to ``floor``; ``step`` counts from 0.

    Constant with a late decay ends lower than a cosine of the same length does, and the way down
    can be taken from any step of a longer run (Haegele et al. 2024, arXiv:2405.18392).
    """
    optimizer = config.optimizer
    up = (step + 1) / max(optimizer.warmup, 1)
    down = (config.steps - step) / max(optimizer.decay * config.steps, 1)
    return optimizer.lr * min(up, 1.0, max(down, optimizer.floor))


def backward(model: TV2TV, batches: Sequence[Batch], weights: LossConfig) -> Outcome:
    """Leave the gradient of a whole step in the parameters; nothing is changed yet.

    Losses are divided by the counts of the whole step, so that micro-steps add up to it.
    """
    model.zero_grad(set_to_none=True)
    text_count = torch.stack([batch.text_count for batch in batches]).sum()
    video_count = torch.stack([batch.video_count for batch in batches]).sum()
    parts: dict[str, tuple[float, int]] = {}
    for batch in batches:
        found = losses(model(batch), batch, model.config)
        found.total(
            weights.text, weights.video, text_count=text_count, video_count=video_count
        ).backward()
        for name, (total, count) in found.parts().items():
            before = parts.get(name, (0.0, 0))
            parts[name] = (before[0] + total, before[1] + count)
    return Outcome(parts, gradient_norms(parameter_groups(model)))


def gradient_norms(groups: dict[str, list[nn.Parameter]]) -> dict[str, float]:
    """Norm of the gradient by group, and of all as ``total``."""
    norms = {
        name: float(
            torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        )
        for name, parameters in groups.items()
    }
    return {**norms, "total": math.sqrt(sum(norm**2 for norm in norms.values()))}


def update(state: State, outcome: Outcome, rate: float, config: OptimizerConfig) -> None:
    """Clip the gradient, take the optimizer's step, and follow it with the average."""
    scale = config.clip / (outcome.norms["total"] + EPSILON)
    gradients = [p.grad for p in state.model.parameters() if p.grad is not None]
    if scale < 1:
        torch._foreach_mul_(gradients, scale)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    state.step += 1
    # A short run must not average in its random beginning.
    decay = min(config.ema, (1 + state.step) / (10 + state.step))
    current = state.model.state_dict()
    with torch.no_grad():
        torch._foreach_lerp_(
            list(state.average.values()), [current[name] for name in state.average], 1 - decay
        )
