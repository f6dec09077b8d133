"""Explains a network by every method and composite for any network, and prints which of them changed anything, as JSON.

A script of its own: the type checker of the tests draws from Python's random numbers.
"""

import json
import random
import warnings

import numpy as np
import torch
from any_network import ANY_NETWORK
from torch import Tensor, nn

from vidact.attribution.lrp.composites import COMPOSITES
from vidact.attribution.registry import build_explainer

NAMES = [*ANY_NETWORK, *(f"lrp:{name}" for name in COMPOSITES)]


class Small(nn.Module):
    """A small 3-D network with all that is delicate: BatchNorm and dropout in training mode, an in-place ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.AdaptiveAvgPool3d(2)
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32, 5))

    def forward(self, video: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(video))
        return scores

    def attention_maps(self, video: Tensor) -> Tensor:
        return video[:, 0]


def plain(value: object) -> object:
    """Turn tensors into their bytes, wherever they are in dicts and lists."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def fingerprint(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, object]:
    return {
        "weights": plain(network.state_dict()),
        "optimizer": plain(optimizer.state_dict()),
        "torch RNG": plain(torch.get_rng_state()),
        "python RNG": random.getstate(),
        "numpy RNG": np.random.get_state()[1].tolist(),  # type: ignore[union-attr]
        "parameters": [(id(p), p.requires_grad, plain(p.grad)) for p in network.parameters()],
        "modules": [(id(m), m.training, sorted(vars(m)), len(m._forward_hooks)) for m in network.modules()],
        "settings": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
    }


def changed_by(name: str) -> list[str]:
    torch.manual_seed(0)
    network = Small().train()
    optimizer = torch.optim.Adam(network.parameters())
    video, target = torch.rand(3, 1, 6, 8, 8), torch.tensor([0, 1, 4])
    nn.functional.cross_entropy(network(video), target).backward()
    optimizer.step()
    before = fingerprint(network, optimizer)
    with build_explainer(name, network, batch_size=2) as explain:
        explain.scores(video)
        explain(video, target, against="rest")
    after = fingerprint(network, optimizer)
    return [key for key in before if before[key] != after[key]]


if __name__ == "__main__":
    warnings.simplefilter("error")
    print(json.dumps({name: changed_by(name) for name in NAMES}))
