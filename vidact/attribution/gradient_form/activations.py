"""Recognise activations that are modules of a network's own, such as x σ(1.702 x), by trying them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vidact.attribution.gradient_form.steps import Pass

_NUM_VALUES = 64


def let_activations_pass(network: nn.Module) -> list[str]:
    """Let relevance pass each module without weights that works element by element, with f(0) = 0, and is not torch's.

    Args:
        network: A copy; the modules get another `forward`.

    Returns:
        Names of the modules.
    """
    found = []
    for name, module in network.named_modules():
        own = not type(module).__module__.startswith("torch.nn") and not list(module.children())
        if own and not list(module.parameters()) and not list(module.buffers()) and _is_activation(module):
            module.forward = _passing(module.forward)
            found.append(name)
    return found


def _passing(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def forward(values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = Pass.apply(values, lambda given: function(given, *args, **kwargs))
        return result

    return forward


@torch.no_grad()
def _is_activation(module: nn.Module) -> bool:
    """Say whether a module is an element-wise function that is not linear, and 0 at 0."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(_NUM_VALUES, generator=generator, dtype=torch.float64)
    order = torch.randperm(_NUM_VALUES, generator=generator)
    try:
        whole, part, zero = module(values.clone()), module(values[order[:9]].clone()), module(torch.zeros_like(values))
        twice = module(2 * values)
    except Exception:  # it takes something else than numbers, and so is none
        return False
    given = (whole, part, zero, twice)
    if not all(isinstance(one, Tensor) and one.dtype == values.dtype for one in given) or whole.shape != values.shape:
        return False
    is_each = torch.allclose(part, whole[order[:9]], rtol=1e-12, atol=0)
    return is_each and not bool(zero.any()) and not torch.allclose(twice, 2 * whole)
