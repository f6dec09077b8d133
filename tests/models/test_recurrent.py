import copy
import io
import math

import pytest
import torch
from torch import Tensor, nn

from vidact.core.errors import ConfigError
from vidact.models.layers import PIXEL_MEAN, PIXEL_STD
from vidact.models.recurrent import CNNLSTM, ConvLSTM, LSTMStep, shared_copies


def _cnn_lstm(**kwargs: object) -> CNNLSTM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CNNLSTM(**{"num_classes": 5, "num_frames": 4, "size": 16, **kwargs})  # type: ignore[arg-type]


def _conv_lstm(num_frames: int = 3) -> ConvLSTM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ConvLSTM(2, 3, num_frames=num_frames)


def _random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("num_frames", "size", "channels", "differences"),
    [(1, 8, 1, False), (2, 8, 1, True), (5, (25, 16), 3, True)],
)
def test_any_shape_gives_a_score_per_class_and_a_gradient_per_frame(
    num_frames: int, size: int | tuple[int, int], channels: int, differences: bool
) -> None:
    network = _cnn_lstm(num_frames=num_frames, size=size, channels=channels, differences=differences).eval()
    height, width = (size, size) if isinstance(size, int) else size
    video = _random(2, channels, num_frames, height, width).requires_grad_()
    scores = network(video)
    assert scores.shape == (2, 5)
    scores[:, 0].sum().backward()
    assert video.grad is not None
    assert (video.grad.abs().sum(dim=(1, 3, 4)) > 0).all(), "a frame gets no gradient"


def test_it_is_the_plain_network_written_out() -> None:
    """Frame by frame, with the LSTM as PyTorch's documentation gives it."""
    network, video = _cnn_lstm().eval().double(), _random(2, 1, 4, 16, 16).double()
    w = network.state_dict()
    hidden = cell = torch.zeros(2, 128, dtype=torch.float64)
    for frame in video.unbind(dim=2):
        x = (frame - PIXEL_MEAN) / PIXEL_STD
        for layer in (0, 4, 8):
            x = nn.functional.conv2d(x, w[f"features.{layer}.weight"], padding=1)
            mean, var = w[f"features.{layer + 1}.running_mean"], w[f"features.{layer + 1}.running_var"]
            x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()  # γ = 1, β = 0 at the start
            x = nn.functional.max_pool2d(x.relu(), 2)
        x = nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)
        gates = x @ w["lstm.weight_ih_l0"].T + w["lstm.bias_ih_l0"] + hidden @ w["lstm.weight_hh_l0"].T
        i, f, g, o = (gates + w["lstm.bias_hh_l0"]).chunk(4, dim=1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
    expected = hidden @ w["head.1.weight"].T + w["head.1.bias"]
    torch.testing.assert_close(network(video), expected, rtol=1e-6, atol=1e-8)


def test_the_order_of_the_frames_matters() -> None:
    network, video = _cnn_lstm().eval(), _random(1, 1, 4, 16, 16)
    assert not torch.allclose(network(video), network(video.flip(2)), atol=1e-5)


def test_it_is_lean_at_the_size_of_the_reports_clips() -> None:
    with torch.device("meta"):
        network = CNNLSTM(num_classes=8)
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64)
    lstm = 4 * 128 * (64 * 16 + 128 + 2)
    assert sum(p.numel() for p in network.parameters()) == convolutions + lstm + 128 * 8 + 8


def test_frames_that_are_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"frames of 8 pixels or more, got size = \(7, 20\)"):
        _cnn_lstm(size=(7, 20))


def test_a_convlstm_is_shis_equations_written_out() -> None:
    """Shi et al. 2015, eq. 3 without peepholes, place by place, with separate convolutions of x and h."""
    layer, features = _conv_lstm().double(), _random(2, 3, 2, 4, 5).double()
    gates = layer.steps[0].gates
    weight, bias = gates.weight.detach(), gates.bias.detach()
    hidden = cell = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    for t, found in enumerate(layer(features).unbind(dim=1)):
        z = torch.zeros(2, 12, 4, 5, dtype=torch.float64)
        padded_x, padded_h = (nn.functional.pad(values, (1, 1, 1, 1)) for values in (features[:, t], hidden))
        for y in range(4):
            for x in range(5):
                from_x = torch.einsum("jiyx,biyx->bj", weight[:, :2], padded_x[:, :, y : y + 3, x : x + 3])
                from_h = torch.einsum("jiyx,biyx->bj", weight[:, 2:], padded_h[:, :, y : y + 3, x : x + 3])
                z[:, :, y, x] = from_x + from_h + bias
        i, f, o = z[:, 0:3].sigmoid(), z[:, 3:6].sigmoid(), z[:, 9:12].sigmoid()
        cell = f * cell + i * z[:, 6:9].tanh()
        hidden = o * cell.tanh()
        torch.testing.assert_close(found, hidden, rtol=1e-10, atol=1e-12)


def test_each_convolution_of_a_convlstm_is_called_once_and_all_share_one_weight() -> None:
    layer = _conv_lstm()
    calls = []
    for step in layer.steps:
        step.gates.register_forward_hook(lambda module, *_: calls.append(module))
    layer(_random(1, 3, 2, 4, 4))
    assert [id(module) for module in calls] == [id(step.gates) for step in layer.steps]
    assert len(set(map(id, calls))) == 3
    assert len([*layer.parameters()]) == 2


def _shares(layer: nn.Module) -> bool:
    weights = [step.gates.weight for step in layer.steps]  # type: ignore[union-attr]
    return len({id(weight) for weight in weights}) == 1 and len({weight.data_ptr() for weight in weights}) == 1


def test_a_copy_and_a_conversion_keep_the_sharing() -> None:
    layer = _conv_lstm()
    other = copy.deepcopy(layer)
    assert _shares(other)
    assert other.steps[0].gates.weight is not layer.steps[0].gates.weight
    assert _shares(layer.double())
    assert layer.steps[2].gates.weight.dtype == torch.float64
    assert _shares(layer.float().to(torch.bfloat16))


def test_saved_weights_are_written_once_and_loaded_into_all_steps() -> None:
    layer, other = _conv_lstm(num_frames=50), _conv_lstm(num_frames=50)
    size = layer.steps[0].gates.weight.numel() * 4
    buffer = io.BytesIO()
    torch.save({name: value for name, value in layer.state_dict().items() if name.endswith("weight")}, buffer)
    one = io.BytesIO()
    torch.save({"x": layer.steps[0].gates.weight.detach()}, one)
    assert len(buffer.getvalue()) - len(one.getvalue()) < 50 * size / 4, "each step has been written"
    with torch.no_grad():
        layer.steps[0].gates.weight.mul_(3)
    other.load_state_dict(layer.state_dict())
    assert _shares(other)
    assert torch.equal(other.steps[49].gates.weight, layer.steps[0].gates.weight)


def test_training_moves_the_weight_of_all_steps_alike() -> None:
    layer = _conv_lstm()
    before = layer.steps[0].gates.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(_random(1, 3, 2, 4, 4)).sum().backward()
    optimizer.step()
    assert _shares(layer)
    assert not torch.equal(layer.steps[2].gates.weight, before)


def test_shared_copies_are_distinct_but_for_their_parameters() -> None:
    first, second = shared_copies(LSTMStep(nn.Linear(5, 8)), 2)
    assert first is not second
    assert {*first.modules()} & {*second.modules()} == set()
    assert [*map(id, first.parameters())] == [*map(id, second.parameters())]


def test_an_open_gate_keeps_the_cell_and_a_shut_one_forgets_it() -> None:
    """Known truth: with f = 1 and i = 0 the cell stays, with f = 0 and i = 1 it is tanh(g)."""
    for i, f, expected in ((-50.0, 50.0, 0.7), (50.0, -50.0, math.tanh(0.3))):
        linear = nn.Linear(2, 4)
        with torch.no_grad():
            linear.weight.zero_()
            linear.bias.copy_(torch.tensor([i, f, 0.3, 50.0]))
        hidden, cell = LSTMStep(linear)(torch.ones(1, 1), (torch.zeros(1, 1), torch.full((1, 1), 0.7)))
        assert cell.item() == pytest.approx(expected, abs=1e-6)
        assert hidden.item() == pytest.approx(math.tanh(expected), abs=1e-6)
