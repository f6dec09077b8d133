"""What a network that somebody else has written must keep to: how it is built, what it is given, what it gives.

It trains and explains nothing.
"""

import contextlib
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jsonargparse
import torch
from jaxtyping import Float
from jsonargparse.typing import register_type
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from vidact.core.errors import NetworkError, explain_fault

WRAP = "or wrap the network in three lines (docs/your-own-network.md)"
# What a network's own code raises; torch has others for memory that ends and processes that are gone.
_RAISED = (
    *(TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError, AssertionError),
    *(NotImplementedError, ZeroDivisionError, NameError, UnboundLocalError),
)
_ONE_CLIP = "Expected more than 1 value per channel when training"
_OF_DEVICE = re.compile(r"(CUDA|HIP|NCCL|cuDNN) error")
_FOREIGN = (str(Path(str(torch.__file__)).parent), str(Path(__file__).parents[1] / "attribution"), __file__, "<")


def _as_tensor(numbers: Any) -> Tensor:
    """Make a tensor of a list of numbers; a single number is none, since a learning rate may be a tensor, too."""
    if not isinstance(numbers, list) or len(numbers) < 2:
        raise ValueError("expected a list of numbers")
    return torch.tensor(numbers, dtype=torch.get_default_dtype())


# So that numbers in YAML can be given where a tensor is wanted, as a loss's weights of classes.
register_type(Tensor, serializer=Tensor.tolist, deserializer=_as_tensor, fail_already_registered=False)


class OneClipError(NetworkError):
    """A network normalises over the clips of a batch, and has been given one clip."""


def builds_networks(kind: Any) -> bool:
    """Say whether this is a class of networks, or a function that says (`-> nn.Module`) that it builds one."""
    if isinstance(kind, type):
        return issubclass(kind, nn.Module)
    if not callable(kind):
        return False
    try:
        given = typing.get_type_hints(kind).get("return")
    except (NameError, TypeError, AttributeError):
        return False
    return isinstance(given, type) and issubclass(given, nn.Module)


def accepted_settings(kind: Callable[..., nn.Module]) -> frozenset[str]:
    """Name the settings that a class of networks, or a function that builds one, takes, as `fit` does.

    Those that it hands on by `**kwargs` count, as far as its source tells them.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    if isinstance(kind, type):
        return frozenset(parser.add_class_arguments(kind, fail_untyped=False))
    return frozenset(parser.add_function_arguments(kind, fail_untyped=False))


def unwrapped(network: nn.Module) -> nn.Module:
    """Give what `torch.compile` or `nn.DataParallel` is wrapped around, or the network itself."""
    while (name := {"OptimizedModule": "_orig_mod", "DataParallel": "module"}.get(type(network).__name__)) is not None:
        inner = network._modules.get(name)
        if inner is None:
            break
        network = inner
    return network


def module_names(network: nn.Module, name: str = "") -> Iterator[str]:
    """Name a network's modules as they are called where nothing is compiled or wrapped."""
    yield name
    for child, module in unwrapped(network).named_children():
        yield from module_names(module, f"{name}.{child}" if name else child)


def class_path(network: nn.Module) -> str:
    """Name a network's class by its import path; of one that is compiled, that of what was compiled."""
    kind = type(unwrapped(network))
    return f"{kind.__module__}.{kind.__qualname__}"


def require_built(network: nn.Module) -> None:
    """Refuse a network whose weights have no shape yet.

    Raises:
        NetworkError: names the first such layer, and what to do.
    """
    for name, module in network.named_modules():
        if any(is_lazy(one) for one in (*module._parameters.values(), *module._buffers.values())):
            raise NetworkError(
                f"{class_path(network)}: {name or 'the network'} ({type(module).__name__}) has no weights before a "
                "clip has gone through it; let the network's __init__ end with self(torch.zeros(2, channels, "
                "num_frames, size, size)), or name the number of inputs (nn.Conv3d, nn.Linear)"
            )


def explain_building(error: Exception, class_path: str) -> NetworkError | None:
    """Say in one line what a network's own constructor has raised; None where another part has raised it.

    Args:
        error: As it came.
        class_path: Of the network, or of the function that builds it.
    """
    home, _, name = class_path.rpartition(".")
    home = getattr(getattr(sys.modules.get(home), name, None), "__module__", home)  # where it is defined
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = any(
        frame.f_globals.get("__name__") == home and frame.f_code.co_qualname in (name, f"{name}.__init__")
        for frame in frames
    )
    if not own or isinstance(error, NetworkError) or is_oom_error(error) or explain_fault(error):
        return None
    last = traceback.extract_tb(error.__traceback__)[-1]
    told = " ".join(str(error).split())[:300]
    return NetworkError(
        f"--model.network: {class_path} cannot be built, in {last.filename}, line {last.lineno}: "
        f"{type(error).__name__}: {told}"
    )


@contextlib.contextmanager
def reword_network_errors(network: nn.Module, video: Tensor) -> Iterator[None]:
    """Turn into one line what a network's own code raises when it is given clips.

    Raises:
        OneClipError: it was given one clip to learn from, and normalises over clips.
        NetworkError: says what it was given, what it raised, and where.
    """
    try:
        yield
    except Exception as error:
        if type(error) not in _RAISED or is_oom_error(error) or explain_fault(error) or _OF_DEVICE.search(str(error)):
            raise
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if str(error).startswith(_ONE_CLIP):
            raise OneClipError(
                f"the network {class_path(network)} normalises over the clips of a batch and cannot learn from one "
                f"clip alone ({told}); give --data.batch_size 2 or more, or take nn.LayerNorm or nn.GroupNorm in place "
                "of nn.BatchNorm1d"
            ) from error
        raise NetworkError(
            f"the network {class_path(network)} fails on clips of shape {list(video.shape)} (one tensor [B, C, T, H, "
            f"W] in [0, 1]){_place(error)}: {told}; {_what_to_try(error, video)}"
        ) from error


def _place(error: Exception) -> str:
    """Name the innermost line of the network's own code."""
    frames = traceback.extract_tb(error.__traceback__)[2:]  # not of who asked
    own = [frame for frame in frames if not frame.filename.startswith(_FOREIGN)]
    return f" in {own[-1].filename}, line {own[-1].lineno}" if own else ""


def _what_to_try(error: Exception, video: Tensor) -> str:
    if "channels" in str(error) and video.shape[1] == 1 and "to have 3 channels" in str(error):
        return "it is made for coloured clips: --data.gray false"
    return f"if it needs another input (a list of pathways, another order of axes), change its forward, {WRAP}"


def require_logits(scores: Any, network: nn.Module, video: Tensor, *, num_classes: int | None = None) -> Tensor:
    """Refuse what a network gives if it is no tensor of logits [B, K].

    Args:
        scores: What it gave.
        network: Is named.
        video: What it was given.
        num_classes: K; any number from 1 if None.

    Raises:
        NetworkError: says what was expected, what was got, and what to do.
    """
    wanted = [len(video), "K" if num_classes is None else num_classes]
    if isinstance(scores, Tensor) and scores.is_floating_point() and scores.ndim == 2 and len(scores) == len(video):
        given = scores.shape[1]
        if given == num_classes or (num_classes is None and given > 0):
            return scores
    classes = "" if num_classes is None else f" for {num_classes} classes"
    raise NetworkError(
        f"the network {class_path(network)} gives {_described(scores)} for {len(video)} clips; expected one tensor of "
        f"logits of shape [{wanted[0]}, {wanted[1]}]{classes}; {_how_to_give(scores, video, num_classes)}"
    )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} of shape {list(value.shape)}"
    entries = _entries(value)
    name = type(value).__name__
    return f"{name} ({', '.join(entries)})" if entries else name


def _entries(value: Any) -> list[str]:
    """Name the tensors in what a network gives as its code would reach them."""
    if isinstance(value, dict):
        pairs = [(f"[{key!r}]", one) for key, one in value.items()]
    elif isinstance(value, tuple | list):
        names = getattr(value, "_fields", None)
        pairs = [(f".{names[row]}" if names else f"[{row}]", one) for row, one in enumerate(value)]
    else:
        pairs = [(f".{name}", one) for name, one in getattr(value, "__dict__", {}).items() if name.isidentifier()]
    return [f"{name} {list(one.shape)}" for name, one in pairs if isinstance(one, Tensor)]


def _how_to_give(scores: Any, video: Tensor, num_classes: int | None) -> str:
    if not isinstance(scores, Tensor):
        entries = _entries(scores) or [".logits"]
        fitting = [entry for entry in entries if entry.endswith(f" [{len(video)}, {num_classes}]")]
        return f"let forward return its logits alone, as output{(fitting or entries)[0].partition(' ')[0]}, {WRAP}"
    if scores.ndim > 2 and len(scores) == len(video) and scores[0].numel() == (num_classes or scores.shape[1]):
        return f"let forward return scores.flatten(1), {WRAP}"
    if scores.ndim == 2 and len(scores) == len(video) and num_classes is not None:
        return f"let its last layer have {num_classes} outputs: num_classes, if its __init__ names it, says how many"
    return f"let forward keep the batch first and end with one number for each class, {WRAP}"


@runtime_checkable
class Regularised(Protocol):
    """A network whose training adds terms of its own to the loss."""

    def scores_and_penalties(
        self, video: Float[Tensor, "B C T H W"]
    ) -> tuple[Float[Tensor, "B K"], dict[str, Float[Tensor, ""]]]:
        """Score each class, and give the weighted terms by their names."""


@runtime_checkable
class Attentive(Protocol):
    """A network that says itself where and when it attends."""

    def attention_maps(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B T H W"]:
        """Give its attention at the resolution of the video: where in each frame, times how much each frame counts."""


@runtime_checkable
class NamesGradCamLayer(Protocol):
    """A network whose last convolution is not what its head sees, and which names the layer for Grad-CAM itself."""

    gradcam_layer: str
