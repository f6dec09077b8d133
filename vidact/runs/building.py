"""Build the network and the data module that a run's config, or `inspect`, names."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor, nn

from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError, NetworkError, VidactError, causes, in_one_line, nearest
from vidact.core.networks import (
    accepted_settings,
    builds_networks,
    require_built,
    require_logits,
    reword_network_errors,
)
from vidact.data.datamodule import VideoDataModule

_PAGE = "Does not validate against any of the Union subtypes"


def build_network(class_path: str, *, given: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """Build a network as `fit` does.

    Args:
        class_path: Of a class of networks, or of a function that returns one.
        given: Arguments that the network gets if its constructor takes them: num_classes, num_frames, size, channels.
        settings: Further arguments, as a config has them under `init_args`.

    Raises:
        ConfigError: nothing of that name can be imported, it builds no network, or it does not take the arguments.
        NetworkError: the network has no weights yet.
    """
    taken = accepted_settings(find_builder(class_path))
    arguments = {name: value for name, value in given.items() if name in taken} | dict(settings)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "network", fail_untyped=False)  # as `fit` adds them
    config = {"network": {"class_path": class_path, "init_args": arguments}}
    network: nn.Module = _instantiate(parser, config, "network", what=f"{class_path} cannot be built with {arguments}")
    require_built(network)
    return network


def find_builder(class_path: str) -> Callable[..., nn.Module]:
    """Import a class of networks, or a function that returns one.

    Raises:
        ConfigError: there is none; names the networks of that module.
    """
    home, _, name = class_path.rpartition(".")
    if not home or not class_path.replace(".", "").isidentifier():
        raise ConfigError(
            f"{class_path}: expected a class path, as my_module.Net; for a file my_module.py with a class Net"
        )
    try:
        module = importlib.import_module(home)
    except Exception as error:  # whatever a module that is not ours may raise
        raise ConfigError(
            f"{class_path}: {home} cannot be imported from {Path.cwd()}: {in_one_line(error)}; run this where the "
            "file is, or put its folder into PYTHONPATH"
        ) from error
    found = getattr(module, name, None)
    if found is not None and builds_networks(found):
        builder: Callable[..., nn.Module] = found
        return builder
    known = [key for key, value in vars(module).items() if builds_networks(value) and value.__module__ == home]
    problem = f"{class_path} is neither a torch.nn.Module nor a function annotated to return one (-> nn.Module)"
    problem = f"{home} has no class {name}" if found is None else problem
    raise ConfigError(f"{problem}; networks in {home}: {', '.join(nearest(name, known) or known) or 'none'}")


def scores_of_noise(
    network: nn.Module,
    *,
    num_frames: int,
    size: int | tuple[int, int] | list[int],
    channels: int,
    num_classes: int,
    num_clips: int = 1,
) -> Float[Tensor, "B K"]:
    """Score clips of noise, the same each time.

    Raises:
        NetworkError: the network fails, or gives something else than a logit for each class.
    """
    height, width = height_and_width(size)
    noise = torch.rand(num_clips, channels, num_frames, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), reword_network_errors(network, noise):
        scores = network(noise.clone())
    return require_logits(scores, network, noise, num_classes=num_classes)


def try_network(network: nn.Module, **shape: Any) -> None:
    """Make sure that a network of others can be measured: finite logits that depend on the clip and nothing else.

    Args:
        network: It is set to eval mode.
        shape: As `scores_of_noise` takes it.

    Raises:
        NetworkError: it fails; its scores are probabilities or not finite; or they change from call to call, or with
            the other clips of a batch.
    """
    state = {name: value.clone() for name, value in network.eval().state_dict().items()}
    try:
        alone = scores_of_noise(network, **shape)
    except NetworkError as error:
        raise NetworkError(f"{error}; --layout, --pathways and --output say what it takes and returns") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        beside = scores_of_noise(network, num_clips=2, **shape)[:1]
    if not bool(alone.isfinite().all()):
        raise NetworkError("the scores of the network are not finite; do its weights hold NaN or infinite values?")
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, state[name])]
    if changed or any(module.training for module in network.modules()):
        what = f"changes {changed[0]}" if changed else "goes into training mode"
        raise NetworkError(f"the network {what} when it scores a clip; let forward change nothing of it in eval mode")
    if not bool(((alone - beside).abs() <= 1e-3 * alone.abs().max()).all()):
        raise NetworkError(
            "the scores of a clip change from call to call, or with the clip beside it; is there dropout without "
            "training=self.training, noise, or a norm over the batch? let them depend on the clip alone"
        )
    for found, kind in ((alone, "probabilities"), (alone.exp(), "logarithms of probabilities")):
        if shape["num_classes"] > 1 and bool((found >= 0).all()) and abs(float(found.sum()) - 1) < 1e-4:
            raise NetworkError(f"the network returns {kind}; let it return logits, without softmax")


def require_same_again(network: nn.Module, config: Mapping[str, Any], shape: Mapping[str, Any]) -> None:
    """Make sure that a network, built again with its weights as a run is opened, gives the same scores.

    Args:
        network: In eval mode.
        config: Its class_path and init_args.
        shape: As `scores_of_noise` takes it.

    Raises:
        NetworkError: it does not, as where it draws random numbers that are no weights.
    """
    again = build_network(config["class_path"], given=shape, settings=config["init_args"]).eval()
    again.load_state_dict(network.state_dict())
    one, other = (scores_of_noise(each, **shape) for each in (network, again))
    if not bool(((one - other).abs() <= 1e-4 * one.abs().max()).all()):
        raise NetworkError(
            "the network gives other scores when it is built again with the same weights; keep all that it needs in "
            "parameters or persistent buffers, and let its __init__ draw no other random numbers"
        )


def build_data(settings: Mapping[str, Any]) -> VideoDataModule:
    """Build a data module from the `data` part of a config; nothing is read yet.

    Raises:
        ConfigError: a setting that this version does not have.
        DataError: the data is not where it was.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(VideoDataModule, "data")
    data: VideoDataModule = _instantiate(parser, {"data": dict(settings)}, "data", what="the run's config: data")
    return data


def _instantiate(parser: ArgumentParser, config: dict[str, Any], name: str, *, what: str) -> Any:
    try:
        parsed = parser.parse_object(config)
        _drop_defaults(parsed[name], config[name])
        return getattr(parser.instantiate(parsed), name)
    except VidactError:
        raise
    except Exception as error:  # whatever a constructor that is not ours may raise
        # jsonargparse wraps what went wrong in errors of its own, the outermost being a page about all types it tried.
        found = [cause for cause in causes(error) if _PAGE not in str(cause)] or [error]
        told = next((cause for cause in found if isinstance(cause, VidactError)), None)
        raise told or ConfigError(f"{what}: {in_one_line(found[0])}") from error


def _drop_defaults(parsed: Namespace, config: Mapping[str, Any]) -> None:
    """Leave defaults to Python: jsonargparse would build those that are classes, with arguments of its own."""
    given = config.get("init_args")
    if not given:
        return
    parsed.init_args = Namespace(**{key: parsed.init_args[key] for key in given})  # type: ignore[no-untyped-call]
    for key, value in given.items():
        if isinstance(value, dict) and "class_path" in value and isinstance(parsed.init_args[key], Namespace):
            _drop_defaults(parsed.init_args[key], value)
