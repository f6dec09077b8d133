"""Find BatchNorms that must not be merged into a layer, because other modules use that layer's output too."""

import copy

import torch
from torch import Tensor, nn

from vidact.attribution.copies import differ, scores_of
from vidact.attribution.graph.canonizers import MergeBatchNorm
from vidact.attribution.graph.pairs import Pair, batch_norm_pairs


@torch.no_grad()
def find_wrong_merges(network: nn.Module, video: Tensor) -> list[tuple[str, str]]:
    """Find each BatchNorm whose layer's output is also used elsewhere, without its gradient.

    A fresh BatchNorm changes nothing and one with γ = 0 hides its input, so each gets other parameters first.

    Args:
        network: In eval mode; stays as it is.
        video: [B, C, T, H, W].

    Returns:
        The names of the layer and of the BatchNorm.
    """
    network = copy.deepcopy(network)
    pairs = batch_norm_pairs(network, video)
    generator = torch.Generator().manual_seed(0)
    for norm in (pair.batch_norm for pair in pairs):
        places = ((norm.running_mean, -0.5), (norm.running_var, 0.5), (norm.weight, 0.5), (norm.bias, -0.5))
        for values, low in places:
            if values is not None:
                values.copy_(torch.rand(values.shape, generator=generator) + low)
    expected = scores_of(network, video)
    merges = [MergeBatchNorm(video).register(pair) for pair in pairs]
    if not merges or not differ(scores_of(network, video), expected):
        return []
    for merge in merges:
        merge.remove()
    names = {module: name for name, module in network.named_modules()}
    return [(names[pair.linear], names[pair.batch_norm]) for pair in pairs if _changes(network, video, pair, expected)]


def _changes(network: nn.Module, video: Tensor, pair: Pair, expected: Tensor) -> bool:
    merge = MergeBatchNorm(video).register(pair)
    found = scores_of(network, video)
    merge.remove()
    return differ(found, expected)
