"""Find BatchNorms that would be merged with a layer whose output they do not normalise; it knows no breaches."""

import contextlib
import copy

import torch
from torch import Tensor, nn

from vidact.attribution.canonizers import MergeBatchNorm, Pair, batch_norm_pairs

SAME = 1e-3  # of the largest score


@torch.no_grad()
def find_wrong_merges(network: nn.Module, video: Tensor) -> list[tuple[str, str]]:
    """Find each BatchNorm that is defined behind a layer whose output it does not normalise.

    A fresh BatchNorm changes nothing and one with γ = 0 hides what it is given, so each is given other numbers first.

    Args:
        network: In eval mode; stays as it is.
        video: [B, C, T, H, W].

    Returns:
        The names of the layer and of the BatchNorm.
    """
    network = copy.deepcopy(network)
    pairs = batch_norm_pairs(network)
    generator = torch.Generator().manual_seed(0)
    for norm in (pair.batch_norm for pair in pairs):
        places = ((norm.running_mean, -0.5), (norm.running_var, 0.5), (norm.weight, 0.5), (norm.bias, -0.5))
        for values, low in places:
            if values is not None:
                values.copy_(torch.rand(values.shape, generator=generator) + low)
    expected = _scores(network, video)
    merges = [MergeBatchNorm().register(pair) for pair in pairs]
    if not merges or not differ(_scores(network, video), expected):
        return []
    for merge in merges:
        merge.remove()
    names = {module: name for name, module in network.named_modules()}
    return [(names[pair.linear], names[pair.batch_norm]) for pair in pairs if _changes(network, video, pair, expected)]


def differ(found: Tensor, expected: Tensor) -> bool:
    """Say whether two tensors of scores are not the same."""
    return bool((found - expected).abs().max() > SAME * expected.abs().max() + torch.finfo(expected.dtype).tiny)


def same_random_numbers(video: Tensor) -> contextlib.AbstractContextManager[None]:
    """Let a network that is random also in eval mode draw the same numbers each time, and leave no trace of it."""
    return torch.random.fork_rng(devices=[video.device] if video.is_cuda else [])


def _changes(network: nn.Module, video: Tensor, pair: Pair, expected: Tensor) -> bool:
    merge = MergeBatchNorm().register(pair)
    found = _scores(network, video)
    merge.remove()
    return differ(found, expected)


def _scores(network: nn.Module, video: Tensor) -> Tensor:
    with same_random_numbers(video):
        scores: Tensor = network(video.clone())
    return scores
