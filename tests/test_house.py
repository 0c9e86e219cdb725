"""The house keeps its shape: imports only go down, never up, never across."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "corpus": set(),
    "worlds": {"corpus"},
    "vlm_prompts": {"corpus"},
    "stages": {"corpus", "worlds", "vlm_prompts"},
    "training": {"corpus", "worlds"},
    "pipeline": {"corpus", "worlds", "vlm_prompts", "stages", "training"},
}


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_only_go_down(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        ours = imported(path) & set(MAY_IMPORT) - {folder}
        assert ours <= MAY_IMPORT[folder], f"{path.relative_to(ROOT)} imports {sorted(ours)}"


def test_training_and_ground_floor_need_no_ray() -> None:
    for folder in ("corpus", "worlds", "training", "stages", "vlm_prompts"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "ray" not in imported(path), f"{path.relative_to(ROOT)} imports ray"


def test_nothing_unsafe_is_called() -> None:
    """No pickle, no unsafe loads, no shell, no foreign code."""
    banned = (
        "import pickle",
        "allow_pickle=True",
        "weights_only=False",
        "shell=True",
        "trust_remote_code=True",
        "yaml.load(",
    )
    for folder in MAY_IMPORT:
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            found = [word for word in banned if word in text]
            assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_every_import_is_a_declared_dependency() -> None:
    """What comes along with another package today need not do so tomorrow."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[\[<>=~! ]", item)[0].lower() for items in lists for item in items}
    providers = packages_distributions()
    foreign = set[str]()
    for folder in MAY_IMPORT:
        for path in (ROOT / folder).rglob("*.py"):
            foreign |= imported(path) - set(MAY_IMPORT) - sys.stdlib_module_names
    assert "numpy" in foreign
    for name in sorted(foreign):
        known = {each.lower().replace("_", "-") for each in providers.get(name, [name])}
        assert known & declared, f"{name} is imported, but none of {sorted(known)} is declared"
