"""A private copy of a network that can be differentiated, and the state of torch in which it is run.

It knows no method and no rule.
"""

import contextlib
import copy
from collections.abc import Collection, Iterator
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor, nn

from vidact.core import ExplanationError

SAME = 1e-3  # of the largest score


def private_copy(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Copy a network for explaining: in eval mode, its parameters without gradient.

    Args:
        network: Stays as it is.
        dtype: Of the copy.

    Raises:
        ExplanationError: it cannot be copied.
    """
    # Not under inference mode: a copy made there could not be differentiated.
    with torch.inference_mode(mode=False):
        copied = _deepcopy(network).to(dtype).eval().requires_grad_(requires_grad=False)
    for module in copied.modules():
        if isinstance(module, nn.RNNBase):  # cuDNN differentiates recurrent layers in training mode only
            module.dropout = 0.0
            module.train()
    return copied


def compute_out_of_place(network: nn.Module, video: Float[Tensor, "B C T H W"]) -> tuple[str, ...]:
    """Let no module of a copy overwrite what it is given, as rules and gradients need it.

    Where another module reads what was overwritten, that makes another network of it.

    Args:
        network: The copy; its modules have `inplace = False` afterwards.
        video: A clip to try it with.

    Returns:
        Names of the modules that must work in place for the network to give its scores; empty if none does.
    """
    modules = {name: module for name, module in network.named_modules() if getattr(module, "inplace", False)}
    if not modules:
        return ()
    expected = scores_of(network, video)
    _set_in_place(modules.values(), value=False)
    if not differ(scores_of(network, video), expected):
        return ()
    found = []
    for name, module in modules.items():
        _set_in_place(modules.values(), value=True)
        _set_in_place([module], value=False)
        found += [name] if differ(scores_of(network, video), expected) else []
    _set_in_place(modules.values(), value=False)
    return tuple(found or modules)


def why_in_place(network: nn.Module, name: str) -> tuple[str, str]:
    """Say what is wrong with a module that must work in place, and what to do."""
    kind = type(network.get_submodule(name)).__name__
    return (
        f"{kind}(inplace=True) overwrites what it is given, and another module reads that afterwards",
        "leave out inplace=True, and hand the module's output to whoever is to have it",
    )


def differ(found: Tensor, expected: Tensor) -> bool:
    """Say whether two tensors of scores are not the same."""
    return not bool((found - expected).abs().max() <= SAME * expected.abs().max() + torch.finfo(expected.dtype).tiny)


@torch.no_grad()
def scores_of(network: nn.Module, video: Float[Tensor, "B C T H W"]) -> Tensor:
    """Run a network on a clone of a clip; one that is random also in eval mode draws the same numbers each time."""
    with keep_rng(video.device):
        scores = network(video.clone())
    if not isinstance(scores, Tensor):
        got = type(scores).__name__
        raise ExplanationError(f"expected logits of shape [{len(video)}, K] from the network, got {got}")
    return scores


@contextlib.contextmanager
def differentiable(device: torch.device) -> Iterator[None]:
    """Allow gradients, in full precision, wherever this is called; leave the global random numbers as they are."""
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        _without_tf32(),
        keep_rng(device),
    ):
        yield


@contextlib.contextmanager
def keep_rng(device: torch.device) -> Iterator[None]:
    """Put torch's global generators back afterwards: a network may draw from them, as functional dropout does."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Keep CUDA from rounding to the 10 bits of TF32, as convolutions do by default: scores would move by percents."""
    cudnn: Any = torch.backends.cudnn
    places = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


def _set_in_place(modules: Collection[nn.Module], *, value: bool) -> None:
    for module in modules:
        module.inplace = value  # type: ignore[assignment]


def _deepcopy(network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        if is_oom_error(error):
            raise
        raise ExplanationError(
            f"the network {type(network).__name__} cannot be copied ({str(error).partition(chr(10))[0]}): do not keep "
            "tensors of a forward pass on a module (self.attention = …), or detach them; and for weight_norm take "
            "torch.nn.utils.parametrizations.weight_norm"
        ) from error
