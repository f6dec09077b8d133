"""Build networks and data modules by the class paths that a config names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from torch import nn

from vidact.core.errors import ConfigError, VidactError, causes
from vidact.core.networks import accepted_settings
from vidact.runs.trust import importing_only, require_trusted


def _build_network(config: Mapping[str, Any], *, num_classes: int, trust: Sequence[str], source: Path) -> nn.Module:
    network, data = config["model"].get("network"), config["data"]
    if not isinstance(network, dict) or "class_path" not in network:
        raise ConfigError(f"model.network: expected class_path and init_args in the run's config, got {network!r}")
    if not isinstance(network.get("init_args") or {}, dict):
        raise ConfigError(f"model.network.init_args: expected settings by their names, got {network['init_args']!r}")
    require_trusted(str(network["class_path"]), trust, source=source)
    given = {
        "num_classes": num_classes,
        "num_frames": data["num_frames"],
        "size": data["size"],
        "channels": 1 if data["gray"] else 3,
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "network", fail_untyped=False)  # as fit takes them
    own = dict(network.get("init_args") or {})
    taken = _names_taken(network["class_path"])
    own |= {name: value for name, value in given.items() if name in taken}
    with importing_only(trust, source=source):
        built: nn.Module = _instantiate(parser, {"network": {**network, "init_args": own}}, "network")
    return built


def _names_taken(class_path: str) -> frozenset[str]:
    """Name what a class's constructor, or a function that builds a network, takes, as `fit` asks for it."""
    home, _, kind = class_path.rpartition(".")
    try:
        module = __import__(home, fromlist=[kind])
        return accepted_settings(getattr(module, kind))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"model.network: {class_path} cannot be imported from {Path.cwd()} ({error}); run this where `fit` ran"
        ) from error


def _instantiate(parser: ArgumentParser, config: dict[str, Any], name: str) -> Any:
    try:
        return getattr(parser.instantiate(parser.parse_object(config)), name)
    except VidactError:
        raise
    except ArgumentError as error:
        raise ConfigError(f"the run's config does not fit this version: {' '.join(str(error).split())}") from error
    except (TypeError, ValueError) as error:
        raise _said_inside(error) from error


def _said_inside(error: BaseException) -> VidactError:
    """Find what a settings class has said: jsonargparse hides it in errors of its own."""
    told = next((cause for cause in causes(error) if isinstance(cause, VidactError)), None)
    return told or ConfigError(f"the run's config cannot be built: {' '.join(str(error).split())}")
