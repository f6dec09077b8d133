from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidact.core.errors import ConfigError, NetworkError
from vidact.models.adapters import AdaptedNetwork

CLIP = (2, 3, 8, 6, 6)
LOGITS = torch.zeros(2, 3)


def _video() -> Tensor:
    return torch.rand(CLIP, generator=torch.Generator().manual_seed(0))


class Recorder(nn.Module):
    """Keeps what it was given, and returns what the test wants."""

    def __init__(self, output: Any = None) -> None:
        super().__init__()
        self.output = output

    def forward(self, given: Any) -> Any:
        self.given = given
        return self.output


def test_it_feeds_axes_colours_and_pathways_as_the_network_takes_them() -> None:
    network, video = Recorder(torch.zeros(2, 3)), _video()
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.5]
    AdaptedNetwork(network, layout="BTCHW", mean=mean, std=std)(video)
    wanted = torch.stack([(video[:, c] - mean[c]) / std[c] for c in range(3)], dim=2)  # [B, T, C, H, W]
    torch.testing.assert_close(network.given, wanted)
    AdaptedNetwork(network, pathways=[4, 1])(video)
    slow, fast = network.given
    assert torch.equal(fast, video)
    assert torch.equal(slow, video[:, :, [0, 7]])  # the first and the last of eight, as PySlowFast picks
    AdaptedNetwork(network, layout="BTCHW", pathways=[2])(video)
    assert torch.equal(network.given[0], video[:, :, [0, 2, 4, 7]].transpose(1, 2))


@pytest.mark.parametrize(
    ("output", "name"),
    [
        ({"logits": LOGITS, "features": 0}, "logits"),
        ((0, LOGITS), "1"),
        (namedtuple("Out", "scores")(LOGITS), "scores"),
    ],
)
def test_it_picks_the_logits(output: Any, name: str) -> None:
    assert AdaptedNetwork(Recorder(output), output=name)(_video()) is LOGITS
    with pytest.raises(NetworkError, match="has no part 'nothing'; it returns "):
        AdaptedNetwork(Recorder(output), output="nothing")(_video())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pathways": [4, 0]}, "pathways are numbers of 1 or more"),
        ({"mean": [0.5]}, "mean and std are given together"),
        ({"mean": [0.5], "std": [0.0]}, "std above 0"),
    ],
)
def test_a_mistake_is_said(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        AdaptedNetwork(Recorder(), **settings)


def test_a_pathway_needs_a_frame() -> None:
    with pytest.raises(ConfigError, match="needs clips of 9 frames or more, got 8"):
        AdaptedNetwork(Recorder(), pathways=[9])(_video())
