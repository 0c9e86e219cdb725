"""A trained model as two plain files: model.json (the config) and model.safetensors."""

from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from corpus.errors import UserError
from corpus.files import write_text, writing
from training.model import TV2TV, ModelConfig

CONFIG_NAME = "model.json"
WEIGHTS_NAME = "model.safetensors"


def save_model(model: TV2TV, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write a model; each file is either absent or whole.

    Args:
        weights: other values under the names of ``model.state_dict()``, an average for example.
    """
    values = model.state_dict() if weights is None else weights
    with writing(folder / WEIGHTS_NAME) as temporary:
        save_file({name: value.contiguous() for name, value in values.items()}, temporary)
    write_text(folder / CONFIG_NAME, model.config.model_dump_json(indent=2) + "\n")


def load_model(folder: Path) -> TV2TV:
    """Read a model back, ready to generate.

    Raises:
        UserError: a file is missing or broken, or the weights are another model's.
    """
    try:
        text = (folder / CONFIG_NAME).read_text(encoding="utf-8")
        model = TV2TV(ModelConfig.model_validate_json(text))
        model.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except (OSError, ValidationError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder} holds no model that can be read: {error}") from error
    return model.eval()
