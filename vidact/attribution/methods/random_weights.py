"""Copy a network with random weights, layer by layer: the control that has learnt nothing.

`evaluate` compares maps with those of such a network, and `audit` its answers.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vidact.core.errors import VidactError


def layers_top_down(network: nn.Module) -> tuple[str, ...]:
    """Name the layers that can be randomised, from the output to the input.

    A layer is a module with parameters of its own, or one that knows how to reset its running statistics. The order
    is the reverse of the one in which modules are defined. Layers whose parameters
    all belong to a layer above as well are skipped.

    Raises:
        VidactError: the network has none.
    """
    seen: set[int] = set()
    names = []
    for name, module in reversed(list(network.named_modules())):
        own = {id(parameter) for parameter in module.parameters(recurse=False)}
        statistics = hasattr(module, "reset_parameters") and any(True for _ in module.buffers(recurse=False))
        if own - seen or (statistics and not own):
            names.append(name)
        seen |= own
    if not names:
        raise VidactError(f"{type(network).__name__} has no parameters that could be made random")
    return tuple(names)


def randomised(network: nn.Module, *, generator: torch.Generator) -> nn.Module:
    """Copy a network with all its layers randomised: the last one of `cascade`.

    Args:
        network: Stays as it is.
        generator: Draws the parameters.

    Raises:
        VidactError: as in `cascade`.
    """
    names, copied = layers_top_down(network), _copy(network)
    for name in names:
        _randomise(copied.get_submodule(name), generator)
    return copied


def cascade(network: nn.Module, *, generator: torch.Generator) -> Iterator[tuple[str, nn.Module]]:
    """Randomise a network layer by layer, from the output down (Adebayo et al. 2018, cascading randomisation).

    A layer is reinitialised by its `reset_parameters` (BatchNorm: weight 1, bias 0, mean 0, variance 1). Parameters
    of a module without one are shuffled instead: they keep their distribution, and a single number stays. Numbers are
    drawn on the CPU, so that they are the same on every device; the global generators stay as they are.

    Args:
        network: Stays as it is.
        generator: Draws the parameters.

    Yields:
        The name of a layer, and a copy of the network, of its own, in which this layer and all above it are random.

    Raises:
        VidactError: no layers, or a network that cannot be copied.
    """
    names, current = layers_top_down(network), _copy(network)
    for name in names:
        _randomise(current.get_submodule(name), generator)
        yield name, _copy(current)


def _copy(network: nn.Module) -> nn.Module:
    with torch.inference_mode(mode=False):
        try:
            return copy.deepcopy(network)
        except (RuntimeError, TypeError) as error:
            reason = str(error).partition("\n")[0]
            raise VidactError(f"the network {type(network).__name__} cannot be copied ({reason})") from error


def _randomise(module: nn.Module, generator: torch.Generator) -> None:
    """Reinitialise a layer in place."""
    seed = int(torch.randint(2**63 - 1, (1,), generator=generator, device=generator.device))
    # `torch.manual_seed` would seed the other devices as well, and their state would not be restored.
    with torch.inference_mode(mode=False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        reset = getattr(module, "reset_parameters", None)
        if reset is None:
            for parameter in module.parameters(recurse=False):
                order = torch.randperm(parameter.numel()).to(parameter.device)
                parameter.copy_(parameter.flatten()[order].view_as(parameter))
            return
        drawn = copy.deepcopy(module).cpu()
        drawn.reset_parameters()  # type: ignore[operator]
        for mine, new in zip(_own_tensors(module), _own_tensors(drawn), strict=True):
            mine.copy_(new)


def _own_tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]
