from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vidact.attribution.lrp.conservation import ConservationTable, conservation_table
from vidact.models.layers import InputLayers, Sum
from vidact.models.stacked import StackedFramesCNN

EPSILON = 1e-6


def _made(build: Any, *args: Any, **settings: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return build(*args, **settings).eval()


def _video(num_clips: int = 3, size: int = 8) -> Tensor:
    return torch.rand(num_clips, 1, 4, size, size, generator=torch.Generator().manual_seed(1))


def _table(network: nn.Module, video: Tensor, target: int = 1, **settings: Any) -> ConservationTable:
    settings = {"composite": "epsilon", **settings}
    return conservation_table(network, video, target=torch.full((len(video),), target), **settings)


class _Residual(nn.Module):
    """A skip connection, and the ReLU called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.input = InputLayers(1)
        self.stem, self.body = nn.Conv3d(1, 3, 3, padding=1), nn.Conv3d(3, 3, 3, padding=1)
        self.relu, self.add, self.pool = nn.ReLU(), Sum(), nn.AdaptiveAvgPool3d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(3, 3))

    def forward(self, video: Tensor) -> Tensor:
        stem = self.relu(self.stem(self.input(video)))
        return self.head(self.pool(self.relu(self.add(stem, self.body(stem)))))  # type: ignore[no-any-return]


@torch.no_grad()
def test_a_linear_layers_flow_is_the_formulas() -> None:
    """ε rule written out: R_i = x_i Σ_j w_ij R_j / (z_j ± ε), with the bias in z or not (Bach et al. 2015, eq. 58)."""
    network = _made(lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 5), nn.ReLU(), nn.Linear(5, 3)))
    video = _video()
    table = _table(network, video)
    x = video.flatten(1).double()
    first, second = network[1], network[3]
    z1 = x @ first.weight.double().T + first.bias.double()
    hidden = z1.relu()
    scores = hidden @ second.weight.double().T + second.bias.double()
    score = scores[:, 1]
    for counted in (False, True):
        z2 = (hidden @ second.weight.double().T)[:, 1] + (second.bias.double()[1] if counted else 0)
        leaving2 = hidden * second.weight.double()[1] * (score / z2)[:, None]
        z = z1 if counted else z1 - first.bias.double()
        leaving1 = ((x @ first.weight.double().T) / z * leaving2).sum(dim=1)
        flows = [layer.counted if counted else layer.handled for layer in table.layers]
        assert [layer.name for layer in table.layers] == ["3", "1"]
        assert flows[0].arriving == pytest.approx(1, abs=1e-6)
        assert flows[0].leaving == pytest.approx(float((leaving2.sum(dim=1) / score).mean()), rel=1e-3)
        assert flows[1].arriving == pytest.approx(flows[0].leaving, rel=1e-5)
        assert flows[1].leaving == pytest.approx(float((leaving1 / score).mean()), rel=1e-2)
    total = table.counted if counted else table.handled
    assert float(total.mean()) == pytest.approx(flows[1].leaving, rel=1e-5)


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon", "epsilon_alpha2_beta1"])
def test_what_arrives_is_what_leaves_or_is_lost(composite: str) -> None:
    network = _made(_Residual)
    table = _table(network, _video(), composite=composite)
    assert abs(table.lost_between_layers) < 1e-4
    assert abs(float(table.handled.mean()) + table.lost_to_stabiliser - 1) < 1e-4
    assert [layer.name for layer in table.layers] == ["head.1", "pool", "add", "body", "stem"]
    by_name = {layer.name: layer.handled for layer in table.layers}
    skip = by_name["add"].leaving - by_name["body"].arriving
    assert by_name["stem"].arriving == pytest.approx(skip + by_name["body"].leaving, abs=1e-4)


def test_biases_take_what_they_take_only_where_they_are_counted() -> None:
    network = _made(_Residual)
    with torch.no_grad():
        network.head[1].bias.copy_(torch.tensor([5.0, 9.0, 5.0]))
    table = _table(network, _video())
    head = network(_video()).detach()[:, 1]
    assert (table.handled - 1).abs().max() < 1e-2
    assert table.lost_to_biases > float((9.0 / head).mean()) - 0.3
    without = _made(_Residual)
    for name, parameter in without.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    assert abs(_table(without, _video()).lost_to_biases) < 1e-6


def test_clips_are_told_apart_where_time_is_folded_into_the_batch() -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(1, 3, 8), nn.Flatten()
            self.head = nn.Linear(12, 3)

        def forward(self, video: Tensor) -> Tensor:
            frames = self.conv(video.permute(2, 0, 1, 3, 4).flatten(0, 1)).flatten(1).unflatten(0, (4, -1))
            return self.head(frames.transpose(0, 1).flatten(1))  # type: ignore[no-any-return]

    network, video = _made(Folded), _video()
    together = _table(network, video)
    alone = [_table(network, video[row : row + 1]) for row in range(3)]
    torch.testing.assert_close(together.handled, torch.cat([table.handled for table in alone]))
    for place, layer in enumerate(together.layers):
        mean = sum(table.layers[place].handled.leaving for table in alone) / 3
        assert layer.handled.leaving == pytest.approx(mean, rel=1e-5)


def test_a_sound_network_has_no_warning_and_prints_as_markdown() -> None:
    network = _made(StackedFramesCNN, 3, num_frames=4, size=8)
    with torch.no_grad():
        network.head[3].bias += 1  # a score away from zero
        network.head[3].weight.abs_()
    table = _table(network, _video(), composite="epsilon_plus")
    assert table.warnings() == ()
    lines = str(table).splitlines()
    assert lines[0].startswith("| layer | kind | arriving | leaving |")
    assert len({line.count("|") for line in lines[: 2 + len(table.layers)]} - {11}) == 0
    assert "| head.3 | Linear | 1.0000 |" in str(table)
    assert "ΣR / score: 1.000" in str(table)


class _Lossy(nn.Module):
    """Multiplies what no rule sees."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten, self.linear, self.head = nn.Flatten(), nn.Linear(256, 8), nn.Linear(8, 3)

    def forward(self, video: Tensor) -> Tensor:
        hidden = self.linear(self.flatten(video))
        return self.head(hidden + hidden) + 3  # type: ignore[no-any-return]


def test_relevance_made_by_a_functional_addition_is_said_to_be_lost_between_layers() -> None:
    table = _table(_made(_Lossy), _video())
    (warning,) = table.warnings()
    assert "relevance adds up to 2 times the score instead of 1" in warning
    assert "between layers, where no rule applies" in warning
    assert f"warning: {warning}" in str(table)


def test_relevance_of_what_only_a_bias_speaks_for_is_said_to_be_lost_there() -> None:
    """z⁺ rule by hand: the second channel sees -0.5 and is 1.5 by its bias, so that its three quarters go nowhere."""
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 3))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1, 1))
        network[0].bias.copy_(torch.tensor([0.0, 2.0]))
        network[4].weight.fill_(1.0)
        network[4].bias.zero_()
    table = _table(network, torch.full((1, 1, 4, 8, 8), 0.5), composite="epsilon_plus")
    assert float(table.handled) == pytest.approx(0.25, abs=1e-4)
    (warning,) = table.warnings()
    assert "0 (Conv3d) loses 0.75 of the score, where its bias makes its output" in warning
    assert "do not trust" not in warning


def test_a_score_near_zero_is_said() -> None:
    network = _made(_Residual)
    with torch.no_grad():
        network.head[1].bias -= network(_video(1))[0]
        network.head[1].bias += torch.tensor([1.0, 1e-3, 0.5])
    assert any("a score is near zero" in line for line in _table(network, _video(1)).warnings())


def test_relevance_that_explodes_is_said() -> None:
    """Two inputs that cancel: ε divides by almost nothing."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(256, 1, bias=False), nn.ReLU(), nn.Linear(1, 2))
    video = torch.full((1, 1, 4, 8, 8), 0.5)
    with torch.no_grad():
        network[1].weight.fill_(1e3)
        network[1].weight[:, ::2] = -1e3
        network[1].weight[:, 0] += 1e-2
        network[3].weight.fill_(200.0)
        network[3].bias.zero_()
    table = _table(network, video, composite="epsilon")
    assert any("relevance explodes" in line and "from 1 (Linear) on" in line for line in table.warnings())
