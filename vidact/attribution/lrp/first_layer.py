"""Find the first layer with weights that a network calls, and the bounds of its inputs, for the box and flat rules."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zennit import types

from vidact.core.errors import ConfigError
from vidact.models.layers import InputLayers, Normalisation


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """The layer that sees the pixels.

    Attributes:
        module: The layer.
        low: The least values that its inputs can have; one item of a batch.
        high: The greatest values.
        frame: The number of the frame that each value belongs to, in the shape of one clip's input to the layer.
    """

    module: nn.Module
    low: Tensor
    high: Tensor
    frame: Tensor

    def is_blind_to_time_when_flat(self) -> bool:
        """Say whether the flat rule gives every frame the same relevance here, whatever relevance arrives.

        This is so where each filter spans all frames: the flat rule divides evenly among what a filter sees. It is
        tested by propagating random relevance through a layer of ones.
        """
        num_frames = int(self.frame.max()) + 1
        ones = torch.ones_like(self.frame).requires_grad_()
        with torch.enable_grad():
            output = _run_with_ones(self.module, ones)
        generator = torch.Generator().manual_seed(0)
        above = torch.rand(output.shape, generator=generator).to(output)
        (relevance,) = torch.autograd.grad(output, ones, above / output.detach())
        frame = self.frame.round().long().flatten()
        per_frame = relevance.new_zeros(num_frames).index_add_(0, frame, relevance.flatten())
        return num_frames > 1 and bool((per_frame.max() - per_frame.min()) <= 1e-4 * per_frame.mean())


def find_first_layer(network: nn.Module, video: Float[Tensor, "1 C T H W"]) -> FirstLayer:
    """Run a network on constant clips, and catch the input of its first layer with weights.

    The bounds are those of `InputLayers` or of `Normalisation` where the network has one, else of pixels in [0, 1];
    whatever lies between them and the layer must only move values.

    Args:
        network: Without hooks.
        video: A clip of the shape in question; its values do not matter.

    Raises:
        ConfigError: the network calls no layer with weights, or does more than move values before it.
    """
    inputs = next((module for module in network.modules() if isinstance(module, InputLayers | Normalisation)), None)
    low, high = inputs.bounds() if inputs is not None else (torch.zeros(()), torch.ones(()))
    # Odd numbers: neither their differences nor their means are odd, and 0 is what layers pad with.
    odd = 2 * torch.arange(video.shape[2]).to(video)[:, None, None].expand_as(video) + 1
    given = [_catch(network, inputs, value.to(video).expand_as(video)) for value in (low, high, odd)]
    module, frame = given[0][0], given[2][1]
    if isinstance(module, nn.RNNBase) or not _are_moved(frame, odd):
        raise ConfigError(
            "rules for the first layer (box, flat, w_square) need one that sees the pixels themselves; here "
            f"that is no convolution or linear layer, or values are computed before it ({type(module).__name__}); "
            "try epsilon_plus"
        )
    low, high = given[0][1], given[1][1]
    frame = (frame - 1).clamp(min=0) / 2
    return FirstLayer(module, low[:1], high[:1], frame)  # the same for all frames, if time is folded into the batch


def _are_moved(found: Tensor, values: Tensor) -> bool:
    """Say whether every number in `found` is one of the values, or 0."""
    return bool(torch.isin(found, torch.cat([values.flatten(), values.new_zeros(1)])).all())


class _Caught(Exception):
    """Raised when the first layer is reached, to end the forward pass."""

    def __init__(self, module: nn.Module, values: Tensor) -> None:
        super().__init__()
        self.module, self.values = module, values


def _catch(network: nn.Module, inputs: nn.Module | None, values: Tensor) -> tuple[nn.Module, Tensor]:
    """Replace the output of the input layers by `values`; gives the first layer with weights and its input."""

    def stop(module: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        raise _Caught(module, (*arguments, *named.values())[0].detach())

    layers = [module for module in network.modules() if isinstance(module, (types.Linear, nn.RNNBase))]
    handles = [layer.register_forward_pre_hook(stop, with_kwargs=True) for layer in layers]
    if inputs is not None:
        handles.append(inputs.register_forward_hook(lambda module, arguments, output: values))
    try:
        with torch.no_grad():
            network(values)
    except _Caught as caught:
        return caught.module, caught.values
    finally:
        for handle in handles:
            handle.remove()
    raise ConfigError("the network calls no convolution and no linear layer, so no relevance rule can be applied")


def _run_with_ones(module: nn.Module, values: Tensor) -> Tensor:
    """Run a layer whose weights are ones, without a bias."""
    parameters = {name: torch.ones_like(value) for name, value in module.named_parameters(recurse=False)}
    if "bias" in parameters:
        parameters["bias"].zero_()
    output: Tensor = torch.func.functional_call(module, parameters, (values,))
    return output
