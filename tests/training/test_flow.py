import numpy as np
import pytest
import torch

from training.flow import interpolate, target, to_velocity, velocity
from training.generate.solver import euler, guided, time_grid


@pytest.fixture
def path() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 4, 5)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_path_runs_from_noise_to_data(path: tuple[torch.Tensor, torch.Tensor]) -> None:
    clean, noise = path
    assert torch.equal(interpolate(clean, noise, 0.0), noise)
    assert torch.equal(interpolate(clean, noise, 1.0), clean)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_integrating_the_true_velocity_gives_the_data(
    path: tuple[torch.Tensor, torch.Tensor], steps: int
) -> None:
    clean, noise = path
    solved = euler(lambda x, t: velocity(clean, noise), noise, steps)
    torch.testing.assert_close(solved, clean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("predict", ["v", "x"])
@pytest.mark.parametrize("steps", [1, 6])
def test_a_perfect_network_of_either_kind_gives_the_data(
    path: tuple[torch.Tensor, torch.Tensor], predict: str, steps: int
) -> None:
    clean, noise = path
    output = target(clean, noise, predict)

    def field(x: torch.Tensor, t: float) -> torch.Tensor:
        torch.testing.assert_close(x, interpolate(clean, noise, t), atol=1e-5, rtol=0)
        return to_velocity(output, x, t, predict)

    torch.testing.assert_close(euler(field, noise, steps), clean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("predict", ["v", "x"])
def test_an_output_of_either_kind_is_a_velocity(
    path: tuple[torch.Tensor, torch.Tensor], predict: str
) -> None:
    clean, noise = path
    t = torch.tensor([0.2, 0.9]).view(2, 1, 1, 1)
    x_t = interpolate(clean, noise, t)
    output = target(clean, noise, predict)
    torch.testing.assert_close(
        to_velocity(output, x_t, t, predict), clean - noise, atol=1e-5, rtol=0
    )


def test_numpy_and_torch_agree(path: tuple[torch.Tensor, torch.Tensor]) -> None:
    clean, noise = path
    ours = interpolate(clean.numpy(), noise.numpy(), 0.3)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, interpolate(clean, noise, 0.3).numpy(), atol=1e-6)


def test_guidance_runs_from_the_null_branch_through_the_conditional_one() -> None:
    conditional, unconditional = torch.tensor([2.0]), torch.tensor([1.0])
    assert guided(conditional, unconditional, 0.0) == unconditional
    assert guided(conditional, unconditional, 1.0) == conditional
    assert guided(conditional, unconditional, 3.0) == 4.0


def test_time_grid_is_uniform() -> None:
    assert time_grid(4) == [0.0, 0.25, 0.5, 0.75, 1.0]
