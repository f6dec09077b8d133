"""Relevance finds by itself whether rules on modules can follow a network, or gradient form has to."""

import functional_networks
import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.methods import automatic
from vidact.attribution.registry import build_explainer
from vidact.core.errors import ConfigError, ExplanationError
from vidact.models.stacked import StackedFramesCNN


def _stacked() -> nn.Module:
    """A network of always the same weights: with unlucky ones, clips alone and in a batch differ by more rounding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StackedFramesCNN(3, num_frames=4, channels=3, size=16, head="pooled").eval()


NETWORKS = {
    "epsilon_plus": _stacked,
    "cp_lrp": lambda: functional_networks.build("timm", dtype=torch.float32),
}


def _clips(num_clips: int = 2) -> Tensor:
    return torch.rand(num_clips, *functional_networks.CLIP, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("composite", NETWORKS)
def test_it_explains_as_the_composite_that_suits_the_network(composite: str) -> None:
    network, clips, target = NETWORKS[composite](), _clips(), torch.tensor([0, 2])
    with build_explainer(f"lrp:{composite}", network) as explain:
        expected = explain(clips, target, against=torch.tensor([1, 0]))
    with build_explainer("lrp", network, composite="auto", batch_size=1) as explain:
        torch.testing.assert_close(explain.scores(clips), network(clips))
        assert explain.method == f"lrp:{composite}"
        assert explain.network is not network
        found = explain(clips, target, against=torch.tensor([1, 0]))
        assert explain(clips[:0], target[:0]).relevance.shape == (0, *functional_networks.CLIP)
    assert found.method == f"lrp:{composite}"
    torch.testing.assert_close(found.relevance, expected.relevance)
    assert found.account is not None


def test_what_was_chosen_is_kept_where_the_network_is_known_to_be_good(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS["cp_lrp"]()
    with build_explainer("lrp", network) as explain:
        explain.prepare(_clips())
    monkeypatch.setattr(automatic, "find_obstacles", lambda *_: pytest.fail("looked again"))
    with build_explainer("lrp", network, check_network=False) as explain:
        assert explain(_clips(), torch.tensor([0, 0])).method == "lrp:cp_lrp"


def test_what_neither_follows_is_refused_by_gradient_form() -> None:
    class Exponential(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(3, 3, 3)

        def forward(self, video: Tensor) -> Tensor:
            return self.conv(video).exp().mean(dim=(2, 3, 4))  # type: ignore[no-any-return]

    with build_explainer("lrp", Exponential()) as explain, pytest.raises(ExplanationError, match="cannot follow `exp`"):
        explain.prepare(_clips())
    with pytest.raises(ConfigError, match="lrp has no setting zero_biases; there are batch_size, "):
        build_explainer("lrp", Exponential(), zero_biases=False)
