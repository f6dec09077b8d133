"""What a person reads who hands an explainer the wrong thing."""

import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.lrp.checks import find_obstacles
from vidact.attribution.lrp.conservation import conservation_table
from vidact.attribution.registry import METHODS, build_explainer
from vidact.core.errors import ConfigError, ExplanationError
from vidact.models.recurrent import CNNLSTM

pytestmark = pytest.mark.filterwarnings("ignore")


def _network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(4 * 9, 3)).eval()


def _video() -> Tensor:
    return torch.rand(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (_video() * 255, r"expected pixels in \[0, 1\], got values from .* divide by 255\?"),
        (_video() - 0.5, r"expected pixels in \[0, 1\], got values from -0"),
        (_video() / 0, "not finite"),
    ],
)
@pytest.mark.parametrize("method", ["lrp", "gradient", "occlusion"])
def test_pixels_outside_of_0_to_1_are_refused(method: str, video: Tensor, message: str) -> None:
    with build_explainer(method, _network()) as explain, pytest.raises(ExplanationError, match=message):
        explain(video, torch.tensor([0, 1]))


def test_rounding_beyond_0_and_1_is_none_of_our_business() -> None:
    with build_explainer("gradient", _network()) as explain:
        explain(_video().clamp(max=1) + 1e-6, torch.tensor([0, 1]))


class _Detached(nn.Module):
    def forward(self, video: Tensor) -> Tensor:
        return video.flatten(1)[:, :3].detach()


def test_scores_without_a_gradient_are_told_by_every_method() -> None:
    message = "no gradient goes from the network's scores to the clip"
    with build_explainer("gradient", _Detached()) as explain, pytest.raises(ExplanationError, match=message):
        explain(_video(), torch.tensor([0, 1]))


def test_weights_that_are_no_numbers_are_told() -> None:
    network = _network()
    with torch.no_grad():
        network[1].weight[0, 0] = torch.nan
    with pytest.raises(ExplanationError, match="scores of Sequential are not finite; do its weights hold NaN"):
        find_obstacles(network, _video())


class _AddsInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv3d(1, 2, 1), nn.Sequential(nn.Flatten(), nn.Linear(2 * 36, 3))

    def forward(self, video: Tensor) -> Tensor:
        features = self.first(video)
        features += video
        scores: Tensor = self.head(features)
        return scores


def test_an_addition_in_place_is_told_to_be_a_sum() -> None:
    (obstacle, *_) = find_obstacles(_AddsInPlace(), _video())
    assert "Sum" in obstacle.remedy
    assert "not in place" in obstacle.remedy


def test_an_unknown_method_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match="unknown") as found:
        build_explainer("nope", _network())
    assert all(name in str(found.value) for name in METHODS)


def test_a_score_that_the_last_bias_makes_is_told() -> None:
    network, video = _network(), _video()[:1]
    with torch.no_grad():
        network[1].weight.mul_(1e-4)
        network[1].bias.copy_(torch.tensor([1.0, 0, 0]))
    table = conservation_table(network, video, target=torch.tensor([0]), composite="epsilon_plus")
    assert any("the biases of 1 make" in line for line in table.warnings())


def test_relevance_that_has_exploded_is_not_said_to_be_lost_between_layers() -> None:
    """An untrained LSTM, frames that differ little: sums cancel, and rounding alone is more than the score."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CNNLSTM(7, num_frames=16, size=32, differences=True).eval()
    still = torch.rand(1, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0)).expand(1, 1, 16, 32, 32)
    video = (still + torch.linspace(0, 1e-3, 16).reshape(1, 1, 16, 1, 1)).clamp(max=1)
    table = conservation_table(network, video, target=torch.tensor([0]), composite="epsilon_plus")
    assert any("times the score instead of 1" in line for line in table.warnings())
    assert not any("between layers" in line for line in table.warnings())
