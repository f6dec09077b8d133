"""Restrict what a run's config may import to known packages and to modules that the user names with `--trust`.

jsonargparse checks its list of allowed import paths before it imports a class; this module fills that list.
"""

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import _common, set_parsing_settings

from vidact.core.errors import ConfigError, causes

KNOWN = ("vidact", "torch", "torchvision", "lightning", "pytorch_lightning")
# Parts of these packages that read code or any file, or start programs.
DENIED = (
    *("torch.hub", "torch.load", "torch.serialization", "torch.jit.load", "torch.jit._serialization", "torch.package"),
    *("torch.export", "torch.classes", "torch.ops", "torch.utils.cpp_extension", "torch.utils.model_zoo"),
    *("torch.distributed", "torch.multiprocessing", "torch.testing", "lightning.pytorch.cli", "pytorch_lightning.cli"),
)
_DENIAL = re.compile(r"Importing '([\w.]+)' is not allowed")


def parse_modules(text: str | None) -> tuple[str, ...]:
    """Split what `--trust` was given, `my_net,other.nets`, into modules.

    Raises:
        ConfigError: not the name of a module.
    """
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ConfigError(f"--trust: expected modules, as my_net or my_net,other.nets, got {name!r}")
    return tuple(names)


@contextlib.contextmanager
def restrict_imports(trusted: Collection[str], *, source: Path) -> Iterator[None]:
    """Allow imports from `KNOWN` packages and `trusted` modules only, within the context.

    Args:
        trusted: Modules, with all that they hold.
        source: File of the config, for the message.

    Raises:
        ConfigError: a value names other code, which was not imported.
    """
    kept = dict(_common.parsing_settings)  # jsonargparse itself can only add to them
    try:
        set_parsing_settings(import_path_denylist=["*", *DENIED], import_path_allowlist=[*KNOWN, *trusted])
        yield
    except Exception as error:
        if (name := _denied(error)) is None:
            raise
        raise import_refused(name, source=source) from error
    finally:
        _common.parsing_settings.update(kept)


def _denied(error: BaseException) -> str | None:
    """Find the import path that was denied, which jsonargparse hides in errors of its own."""
    for cause in causes(error):
        if found := _DENIAL.search(" ".join(str(cause).split())):
            return found.group(1)
    return None


def require_trusted(class_path: str, trusted: Collection[str], *, source: Path) -> None:
    """Make sure that a class may be imported.

    Raises:
        ConfigError: the user has not named its module.
    """
    allowed = [*KNOWN, *trusted]
    if any(_lies_in(class_path, one) for one in DENIED if one not in trusted) or not any(
        _lies_in(class_path, one) for one in allowed
    ):
        raise import_refused(class_path, source=source)


def _lies_in(class_path: str, module: str) -> bool:
    return f"{class_path}.".startswith(f"{module}.")


def import_refused(class_path: str, *, source: Path) -> ConfigError:
    """Make the error that says why a class is not imported, and what to do."""
    module = class_path.rpartition(".")[0] or class_path
    return ConfigError(
        f"{source}: its config names {class_path}, which is not part of vidact, torch, torchvision or lightning; to "
        f"open the run is to run that code, so it is imported only where you name its module: --trust {module} (read "
        "it first if the run is not your own)"
    )


def modules_of_file(path: Path) -> set[str]:
    """Name the modules of all classes that a config file names."""
    return _modules_in(yaml.safe_load(path.read_text(encoding="utf-8")))


def _modules_in(config: Any) -> set[str]:
    if isinstance(config, dict):
        named = _module_of(config.get("class_path"))
        return named.union(*(_modules_in(value) for value in config.values()))
    return set[str]().union(*map(_modules_in, config)) if isinstance(config, list) else set()


def _module_of(value: Any) -> set[str]:
    parts = value.split(".") if isinstance(value, str) else []
    return {".".join(parts[:-1])} if len(parts) > 1 and all(part.isidentifier() for part in parts) else set()


def split_off_trust(args: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Split a command line into all but `--trust`, and the modules that it names."""
    rest, named = list[str](), list[str]()
    words = iter(args)
    for word in words:
        flag, sign, value = word.partition("=")
        if flag == "--trust":
            named.append(value if sign else next(words, ""))
        else:
            rest.append(word)
    return rest, parse_modules(",".join(named))


def modules_on_command_line(args: Sequence[str]) -> set[str]:
    """Name the modules of all classes that flags name, as in `--model.network my_net.Net`.

    Other flags take files, which look like modules: `--config config.yaml`, `--ckpt_path best.ckpt`.
    """
    words = [word for arg in args for word in arg.split("=", 1)]
    values = (value for flag, value in pairwise(words) if flag.startswith(("--model.", "--trainer.")))
    return set[str]().union(*map(_module_of, values))
