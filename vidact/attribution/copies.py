"""Copy a network, so that explaining never changes the user's, and restore torch's random state afterwards."""

import contextlib
import copy
from collections.abc import Collection, Iterator
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch.utilities.memory import is_oom_error
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from vidact.attribution.unwrapping import give_computed_weights, run_plainly
from vidact.core.errors import ExplanationError, NetworkError
from vidact.core.networks import class_path, require_built, require_logits, reword_network_errors, unwrapped

SAME = 1e-3  # of the largest score


def private_copy(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Copy a network for explaining: in eval mode, its parameters without gradient.

    Wrappers that compile the network or spread it over devices are removed; weights that are computed from others
    (weight_norm, spectral_norm, pruning, …) become plain parameters with their values of eval mode.

    Args:
        network: Stays as it is.
        dtype: Of the copy.

    Raises:
        ExplanationError: it cannot be copied.
        NetworkError: its weights have no shape yet.
    """
    require_built(network)
    # Not under inference mode: a copy made there could not be differentiated. TorchScript copies what has a gradient.
    with torch.inference_mode(mode=False), torch.no_grad():
        copied = _without_wrappers(_deepcopy(network)).eval()
        give_computed_weights(copied)
        copied = copied.to(dtype).requires_grad_(requires_grad=False)
    for module in copied.modules():
        if isinstance(module, nn.RNNBase):  # cuDNN differentiates recurrent layers in training mode only
            module.dropout = 0.0
            module.train()
    return copied


def require_own(copied: nn.Module, network: nn.Module, video: Float[Tensor, "B C T H W"]) -> None:
    """Refuse a copy that still computes with the network's own weights, or whose scores change between calls.

    Raises:
        ExplanationError: says which weights, or that the network keeps something between two calls.
        NetworkError: it does not run, or gives no logits.
    """
    name, watch, scores = class_path(network), _Foreign(network), None
    with contextlib.suppress(NetworkError), watch:
        scores = scores_of(copied, video)
    if watch.found:
        raise ExplanationError(
            f"a copy of the network {name} still computes with the weights of the network itself ({watch.found[0]}): "
            "something keeps a function of one of its modules (self.block = lambda x: self.conv(x), or "
            "self.forward = torch.compile(self.forward)); make it a method, and compile modules: torch.compile(network)"
        )
    again = scores_of(copied, video)
    if scores is not None and torch.isfinite(scores).all() and differ(again, scores):
        raise ExplanationError(
            f"the network {name} gives the same clip other scores in a second call: it keeps something between its "
            "calls; change no buffer and no attribute in forward when it is in eval mode (self.training is False)"
        )


class _Foreign(TorchFunctionMode):
    """Records which of a network's parameters and buffers take part in any computation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        own = [*network.named_parameters(), *network.named_buffers()]
        self._names = {id(tensor): name for name, tensor in own}
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Check the arguments of each torch function; torch calls this in place of the function."""
        given = tree_leaves((args, kwargs or {}))
        self.found += [self._names[id(value)] for value in given if id(value) in self._names]
        return func(*args, **(kwargs or {}))


def compute_out_of_place(network: nn.Module, video: Float[Tensor, "B C T H W"]) -> tuple[str, ...]:
    """Stop the modules of a copy from overwriting their input, which rules and gradients need.

    Where another module reads the overwritten input, this would change the network's scores.

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
    """Say whether two tensors of scores differ by more than rounding."""
    return not bool((found - expected).abs().max() <= SAME * expected.abs().max() + torch.finfo(expected.dtype).tiny)


@torch.no_grad()
def scores_of(network: nn.Module, video: Float[Tensor, "B C T H W"]) -> Tensor:
    """Run a network on a clone of a clip, with a fixed seed, for networks that are random even in eval mode."""
    with keep_rng(video.device), reword_network_errors(network, video):
        scores = network(video.clone())
    return require_logits(scores, network, video)


@contextlib.contextmanager
def differentiable(device: torch.device) -> Iterator[None]:
    """Enable gradients in full precision whatever the caller's mode; restore the global random state afterwards."""
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        _without_tf32(),
        run_plainly(),
        keep_rng(device),
    ):
        yield


@contextlib.contextmanager
def keep_rng(device: torch.device) -> Iterator[None]:
    """Restore torch's global generators afterwards: a network may draw from them, as functional dropout does."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Turn off TF32, whose 10-bit mantissa convolutions use by default on CUDA: scores would change by percents."""
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


def _without_wrappers(network: nn.Module) -> nn.Module:
    """Remove, in a copy, wrappers that compile modules or spread them over devices."""
    network = unwrapped(network)
    for module in list(network.modules()):
        module._compiled_call_impl = None
        for name, child in module._modules.items():
            if child is not None and (inner := unwrapped(child)) is not child:
                module._modules[name] = _without_wrappers(inner)
    return network


def _deepcopy(network: nn.Module) -> nn.Module:
    # Tensors that a forward pass has left on a module have a gradient's history, which cannot be copied.
    kept = {
        id(value): value.detach().clone()
        for module in network.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    }
    try:
        return copy.deepcopy(network, kept)
    except (RuntimeError, TypeError) as error:
        if is_oom_error(error):
            raise
        raise ExplanationError(
            f"the network {type(network).__name__} cannot be copied ({str(error).partition(chr(10))[0]}): keep no "
            "tensors of a forward pass in lists or objects on a module, or detach them; and no generators, locks or "
            "open files"
        ) from error


@contextlib.contextmanager
def in_eval(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode for a while; each module gets its own mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
