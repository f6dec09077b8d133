"""Find the YAML config that `--config` names, by its path or by the name of a recipe, and check it."""

from pathlib import Path
from typing import Any

import yaml

from vidact.core.errors import ConfigError


def resolve_configs(args: list[str]) -> list[str]:
    """Find recipes by their names, and put configs first on the command line, so that flags override them."""
    configs, others = [], []
    words = iter(args)
    for word in words:
        if word in {"-c", "--config"}:
            configs += ["--config", str(find_config(next(words, "")))]
        elif word.startswith("--config="):
            configs += ["--config", str(find_config(word.removeprefix("--config=")))]
        else:
            others.append(word)
    return [*configs, *others]


def find_config(name: str) -> Path:
    """Find a config file: a path, or the name of a recipe that comes with vidact.

    Raises:
        ConfigError: it is neither.
    """
    recipes = configs_folder()
    for path in (Path(name), recipes / f"{name}.yaml"):
        if path.is_file():
            check_yaml(path)
            return path
    known = ", ".join(sorted({path.stem for path in recipes.glob("*.yaml")} - {"sweep"}))
    raise ConfigError(f"--config {name}: no such file, and no recipe of that name; there are {known}")


def check_yaml(path: Path) -> None:
    """Make sure that a config file is a mapping without a key given twice (PyYAML keeps the last, silently).

    Raises:
        ConfigError: says what is wrong, and where.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        raise ConfigError(f"{path}: expected settings (`data:`, `model:`, `trainer:`), got none")
    if {"method", "parameters"} <= {key.value for key, _ in root.value}:
        raise ConfigError(f"{path}: this is a sweep, not a config; run it with: wandb sweep {path}")
    _refuse_double_keys(path, root)


def _refuse_double_keys(path: Path, node: Any) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigError(f"{path}, line {key.start_mark.line + 1}: {key.value!r} is given twice")
            seen.add(key.value)
            _refuse_double_keys(path, value)


def configs_folder() -> Path:
    """Name the folder of the recipes: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    return here / "configs" if (here / "configs").is_dir() else here.parent / "configs"
