"""Weights that are computed from others in each call become parameters, so that a rule can take them as they are.

It knows no rule. What it changes is a copy, in eval mode.
"""

from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm


def give_computed_weights(network: nn.Module) -> None:
    """Replace every computed weight of a network by the parameter that it comes to.

    So with `torch.nn.utils.parametrize` (parametrizations.weight_norm, spectral_norm, orthogonal, …), with the older
    `torch.nn.utils.weight_norm` and `spectral_norm`, and with `torch.nn.utils.prune`.
    """
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            _give_parameters(module)
        for hook in list(module._forward_pre_hooks.values()):
            _take_away(module, hook)


def _give_parameters(module: nn.Module) -> None:
    # torch's remove_parametrizations changes a class that the copy shares with the network itself.
    names: list[str] = list(module.parametrizations)  # type: ignore[arg-type]
    values = {name: getattr(module, name).detach().clone() for name in names}
    module.__class__ = type(module).__bases__[0]
    del module.parametrizations
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def _take_away(module: nn.Module, hook: object) -> None:
    if isinstance(hook, WeightNorm):
        remove_weight_norm(module, hook.name)
    elif isinstance(hook, SpectralNorm):
        remove_spectral_norm(module, hook.name)
    elif isinstance(hook, prune.BasePruningMethod):
        prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
