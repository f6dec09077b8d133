"""The layers that see the pixels: there relevance is divided as R, since g = R / x is undefined where a pixel is 0.

The relevance of a normalised voxel is the voxel's, whatever mean was subtracted; that of a difference of two frames is
half of each.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vidact.models.layers import FrameDifferences, Normalisation


@dataclass
class Pixels:
    """The values that stand for the video's voxels, layer by layer.

    Attributes:
        values: The video, then the outputs of the layers that see nothing else; each requires a gradient of its own.
        given: What stands for the last of them in the network's code.
        layers: The layer between each two of them.
    """

    values: list[Tensor]
    given: Tensor
    layers: list[nn.Module] = field(default_factory=list)

    def follow(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> Tensor | None:
        """End at the output of a layer that normalises or subtracts the pixels alone; gives the new output."""
        if not isinstance(module, Normalisation | FrameDifferences) or not inputs or inputs[0] is not self.given:
            return None
        assert isinstance(output, Tensor)
        self.layers.append(module)
        self.values.append(output.detach().requires_grad_())
        self.given = self.values[-1].clone()  # what follows may work in place
        return self.given

    def relevance(self, scores: Tensor, weights: Tensor) -> Tensor:
        """Propagate Σ_k w_k f_k back to the voxels.

        Args:
            scores: Logits [B, K].
            weights: w [B, K].
        """
        gradients = torch.autograd.grad(scores, self.values, weights, allow_unused=True)
        found = None
        for number in reversed(range(len(self.values))):
            values, gradient = self.values[number].detach(), gradients[number]
            own = torch.zeros_like(values) if gradient is None else gradient * values
            if found is not None:
                below = self.layers[number]
                own = own + (_half_each(found) if isinstance(below, FrameDifferences) else found)
            found = own
        assert found is not None
        return found


def _half_each(relevance: Tensor) -> Tensor:
    """Divide the relevance of differences x_t − x_{t−1}, where the first is that of the second again, among frames."""
    later = relevance[:, :, 1:].clone()
    later[:, :, :1] += relevance[:, :, :1]
    found = torch.zeros_like(relevance)
    found[:, :, 1:] += later / 2
    found[:, :, :-1] += later / 2
    return found
