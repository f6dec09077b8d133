"""Check networks that users wrote, and turn the errors of their code into one-line messages.

Training, attribution and the command line use it on every network: how it is built, and that it maps clips
[B, C, T, H, W] to logits [B, K]. The protocols at the end are what a network may offer besides.
"""

import contextlib
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jsonargparse
import torch
from jaxtyping import Float
from jsonargparse.typing import register_type
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from vidact.core.errors import NetworkError, reword_machine_error

WRAP = "or wrap the network in three lines (docs/how-to/your-own-network.md)"
# What a bug in a network raises; subclasses are not meant: torch has its own for lack of memory and lost processes.
_CODE_ERRORS = (
    *(TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError, AssertionError),
    *(NotImplementedError, ZeroDivisionError, NameError, UnboundLocalError),
)
_ONE_CLIP = "Expected more than 1 value per channel when training"  # torch's words for BatchNorm1d on one clip
_OF_DEVICE = re.compile(r"(CUDA|HIP|NCCL|cuDNN) error")
_FOREIGN = (str(Path(str(torch.__file__)).parent), str(Path(__file__).parents[1] / "attribution"), __file__, "<")


def _as_tensor(numbers: Any) -> Tensor:
    """Convert a list of numbers to a tensor; single numbers are refused, so that a learning rate stays a float."""
    if not isinstance(numbers, list) or len(numbers) < 2:
        raise ValueError("expected a list of numbers")
    return torch.tensor(numbers, dtype=torch.get_default_dtype())


# Lets YAML give a list of numbers where a tensor is expected, such as the class weights of a loss.
register_type(Tensor, serializer=Tensor.tolist, deserializer=_as_tensor, fail_already_registered=False)


class OneClipError(NetworkError):
    """A network normalises over the clips of a batch, and was given a single clip."""


def builds_networks(kind: Any) -> bool:
    """Return whether this is a network class, or a function annotated to return one (`-> nn.Module`)."""
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
    """List the settings that a network class, or a function that builds a network, accepts in a config.

    Settings that it passes on by `**kwargs` are included, as far as jsonargparse finds them in its source.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    if isinstance(kind, type):
        return frozenset(parser.add_class_arguments(kind, fail_untyped=False))
    return frozenset(parser.add_function_arguments(kind, fail_untyped=False))


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside of `torch.compile` or `nn.DataParallel`, or the network itself."""
    while (name := {"OptimizedModule": "_orig_mod", "DataParallel": "module"}.get(type(network).__name__)) is not None:
        inner = network._modules.get(name)
        if inner is None:
            break
        network = inner
    return network


def module_names(network: nn.Module, name: str = "") -> Iterator[str]:
    """Yield the names of all modules, without the prefixes that `torch.compile` and `nn.DataParallel` add."""
    yield name
    for child, module in unwrapped(network).named_children():
        yield from module_names(module, f"{name}.{child}" if name else child)


def class_path(network: nn.Module) -> str:
    """Return the import path of a network's class; of a compiled network, that of the original."""
    kind = type(unwrapped(network))
    return f"{kind.__module__}.{kind.__qualname__}"


def require_built(network: nn.Module) -> None:
    """Refuse a network with lazy layers, whose weights have no shape yet.

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


def reword_build_error(error: Exception, class_path: str) -> NetworkError | None:
    """Reword an error that a network's own constructor raised; None where other code raised it.

    Args:
        error: The error.
        class_path: Import path of the network, or of the function that builds it.
    """
    home, _, name = class_path.rpartition(".")
    # A class path may name a re-export: the frames carry the module that defines it.
    home = getattr(getattr(sys.modules.get(home), name, None), "__module__", home)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    own = any(
        frame.f_globals.get("__name__") == home and frame.f_code.co_qualname in (name, f"{name}.__init__")
        for frame in frames
    )
    if not own or isinstance(error, NetworkError) or is_oom_error(error) or reword_machine_error(error):
        return None
    last = traceback.extract_tb(error.__traceback__)[-1]
    told = " ".join(str(error).split())[:300]
    return NetworkError(
        f"--model.network: {class_path} cannot be built, in {last.filename}, line {last.lineno}: "
        f"{type(error).__name__}: {told}"
    )


@contextlib.contextmanager
def reword_network_errors(network: nn.Module, video: Tensor) -> Iterator[None]:
    """Reword what a network's own code raises on clips; errors of the machine pass through unchanged.

    Raises:
        OneClipError: the network was to learn from one clip, and normalises over clips.
        NetworkError: says what the network was given, what it raised, and where.
    """
    try:
        yield
    except Exception as error:
        if (
            type(error) not in _CODE_ERRORS
            or is_oom_error(error)
            or reword_machine_error(error)
            or _OF_DEVICE.search(str(error))
        ):
            raise
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if str(error).startswith(_ONE_CLIP):
            raise OneClipError(
                f"the network {class_path(network)} normalises over the clips of a batch and cannot learn from one "
                f"clip alone ({told}); give --data.batch_size 2 or more, or replace nn.BatchNorm1d by nn.LayerNorm or "
                "nn.GroupNorm"
            ) from error
        raise NetworkError(
            f"the network {class_path(network)} fails on clips of shape {list(video.shape)} (one tensor [B, C, T, H, "
            f"W] in [0, 1]){_place(error)}: {told}; {_what_to_try(error, video)}"
        ) from error


def _place(error: Exception) -> str:
    """Find the innermost line of the network's own code, for the message."""
    frames = traceback.extract_tb(error.__traceback__)[2:]  # without the caller's frames
    own = [frame for frame in frames if not frame.filename.startswith(_FOREIGN)]
    return f" in {own[-1].filename}, line {own[-1].lineno}" if own else ""


def _what_to_try(error: Exception, video: Tensor) -> str:
    if "channels" in str(error) and video.shape[1] == 1 and "to have 3 channels" in str(error):
        return "it expects colour clips: --data.gray false"
    return f"if it needs another input (a list of pathways, another order of axes), change its forward, {WRAP}"


def require_logits(scores: Any, network: nn.Module, video: Tensor, *, num_classes: int | None = None) -> Tensor:
    """Return a network's output if it is a tensor of logits [B, K], and refuse it otherwise.

    Args:
        scores: The output.
        network: The network, to be named in the message.
        video: The input.
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
        f"the network {class_path(network)} returns {_described(scores)} for {len(video)} clips; expected one tensor "
        f"of logits of shape [{wanted[0]}, {wanted[1]}]{classes}; {_how_to_give(scores, video, num_classes)}"
    )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} of shape {list(value.shape)}"
    entries = _entries(value)
    name = type(value).__name__
    return f"{name} ({', '.join(entries)})" if entries else name


def _entries(value: Any) -> list[str]:
    """List the tensors in an output, each as code would access it (`[0]`, `.logits`) and with its shape."""
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
        return f"let forward return its logits alone, such as output{(fitting or entries)[0].partition(' ')[0]}, {WRAP}"
    if scores.ndim > 2 and len(scores) == len(video) and scores[0].numel() == (num_classes or scores.shape[1]):
        return f"let forward return scores.flatten(1), {WRAP}"
    if scores.ndim == 2 and len(scores) == len(video) and num_classes is not None:
        return f"give its last layer {num_classes} outputs; vidact passes num_classes to an __init__ that takes it"
    return f"let forward return one row per clip and one number per class, {WRAP}"


@dataclass(frozen=True)
class TrainedWeights:
    """How a network with trained weights is built, and what they were trained on.

    Attributes:
        settings: Of its constructor.
        class_names: In the order of its outputs; None where nothing names them.
        num_frames: Frames of a clip.
        size: Height and width in pixels.
        fps: Frames per second at which videos are sampled; None for all frames of a file.
    """

    settings: Mapping[str, Any]
    class_names: tuple[str, ...] | None
    num_frames: int
    size: tuple[int, int]
    fps: float | None = None


@runtime_checkable
class ComesWithWeights(Protocol):
    """A network that may start with weights that others have trained.

    `adopt` makes a run of it. `reopening_settings` are for its constructor in the place of those that name its weights:
    in a run, they are in the checkpoint.
    """

    has_trained_head: bool
    reopening_settings: Mapping[str, Any]

    @classmethod
    def trained(cls, reference: str, weights: str | None) -> TrainedWeights:
        """Say how the network that a name or a folder stands for is built with its weights, or with those of a file."""


@runtime_checkable
class Regularised(Protocol):
    """A network that adds terms of its own to the training loss."""

    def scores_and_penalties(
        self, video: Float[Tensor, "B C T H W"]
    ) -> tuple[Float[Tensor, "B K"], dict[str, Float[Tensor, ""]]]:
        """Return the logits, and the weighted terms by their names."""


@runtime_checkable
class Attentive(Protocol):
    """A network with attention maps of its own, which the attention method shows."""

    def attention_maps(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B T H W"]:
        """Return spatial attention times temporal attention, at the resolution of the video."""


@runtime_checkable
class NamesGradCamLayer(Protocol):
    """A network that names its layer for Grad-CAM, because its last convolution is not the input of its head."""

    gradcam_layer: str
