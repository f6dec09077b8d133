import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from zennit.composites import LayerMapComposite

from vidact.attribution.graph.unrolling import Unrolled, UnrollGRU, UnrollLSTM
from vidact.attribution.lrp.rules import Epsilon, Norm, Pass, SignalTakesAll
from vidact.core.errors import ExplanationError
from vidact.models.layers import Gate, Sum
from vidact.models.recurrent import CNNLSTM, LSTMStep


class _Reader(nn.Module):
    """A recurrent layer over a sequence [B, T, D], and a linear layer on its last hidden state."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(layer.hidden_size * (1 + layer.bidirectional), 4).to(layer.weight_ih_l0.dtype)

    def forward(self, sequence: Tensor) -> Tensor:
        scores: Tensor = self.head(self.layer(sequence)[0][:, -1])
        return scores


def _reader(kind: type[nn.RNNBase] = nn.LSTM, **kwargs: object) -> _Reader:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _Reader(kind(5, 3, **{"batch_first": True, "dtype": torch.float64, **kwargs})).eval()  # type: ignore[arg-type]


def _sequence(num_steps: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, num_steps, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))


CANONIZERS = {nn.LSTM: UnrollLSTM, nn.GRU: UnrollGRU}
kinds = pytest.mark.parametrize("kind", CANONIZERS)


@kinds
@pytest.mark.parametrize(
    ("batch_first", "num_layers", "bidirectional", "bias", "dtype", "most"),
    [
        (True, 1, False, True, torch.float64, 1e-12),
        (False, 2, True, True, torch.float64, 1e-12),
        (True, 2, False, False, torch.float32, 1e-5),
        (False, 1, True, False, torch.float64, 1e-12),
    ],
)
def test_the_unrolled_layer_gives_what_the_layer_gives(
    kind: type[nn.RNNBase],
    batch_first: bool,
    num_layers: int,
    bidirectional: bool,
    bias: bool,
    dtype: torch.dtype,
    most: float,
) -> None:
    network = _reader(
        kind, batch_first=batch_first, num_layers=num_layers, bidirectional=bidirectional, bias=bias, dtype=dtype
    )
    sequence = _sequence(dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    batch = 2 if batch_first else 6
    start = torch.randn(num_layers * (1 + bidirectional), batch, 3, dtype=dtype, generator=generator)
    state = (start, start / 2) if kind is nn.LSTM else start
    expected = [*_flat(network.layer(sequence)), *_flat(network.layer(sequence, state))]
    CANONIZERS[kind](num_steps=6).apply(network)
    found = [*_flat(network.layer(sequence)), *_flat(network.layer(sequence, state))]
    assert isinstance(network.layer, Unrolled)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < most


def _flat(result: object) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    else:
        for part in result:  # type: ignore[attr-defined]
            yield from _flat(part)


@kinds
@pytest.mark.parametrize("num_steps", [1, 8])
def test_fewer_or_more_steps_than_the_sequence_has_give_the_same(kind: type[nn.RNNBase], num_steps: int) -> None:
    network = _reader(kind)
    expected = network(_sequence())
    CANONIZERS[kind](num_steps=num_steps).apply(network)
    assert (network(_sequence()) - expected).abs().max() < 1e-12


@kinds
def test_the_layer_is_put_back(kind: type[nn.RNNBase]) -> None:
    network = _reader(kind, num_layers=2)
    layer, before = network.layer, copy.deepcopy(network.state_dict())
    (instance,) = CANONIZERS[kind]().apply(network)
    instance.remove()
    assert network.layer is layer
    assert [*network.state_dict()] == [*before]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_layer_at_two_places_is_unrolled_once() -> None:
    network = _reader()
    network.again = network.layer
    UnrollLSTM().apply(network)
    assert isinstance(network.layer, Unrolled)
    assert network.again is network.layer


@kinds
def test_a_network_without_such_a_layer_stays_as_it_is(kind: type[nn.RNNBase]) -> None:
    other = nn.GRU if kind is nn.LSTM else nn.LSTM
    network = _reader(other)
    assert CANONIZERS[kind]().apply(network) == []
    assert isinstance(network.layer, other)


@kinds
def test_each_layer_with_weights_is_called_once(kind: type[nn.RNNBase]) -> None:
    network = _reader(kind, num_layers=2, bidirectional=True)
    CANONIZERS[kind](num_steps=6).apply(network)
    assert set(_calls(network, _sequence()).values()) == {1}


@pytest.mark.parametrize("differences", [False, True])
def test_the_steps_are_as_many_as_the_network_reads(differences: bool) -> None:
    network = CNNLSTM(3, num_frames=5, size=8, differences=differences).eval()
    video = torch.rand(2, 1, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = network(video)
    UnrollLSTM().apply(network)
    torch.testing.assert_close(network(video), expected, rtol=0, atol=1e-5)
    calls = _calls(network, video)
    assert len([name for name in calls if name.startswith("lstm.")]) == 5
    assert set(calls.values()) == {1}


def _calls(network: nn.Module, values: Tensor) -> dict[str, int]:
    """Count how often each leaf with weights of its own is called."""
    leaves = {name: module for name, module in network.named_modules() if not [*module.children()]}
    calls = {name: 0 for name, module in leaves.items() if [*module.parameters()]}

    def count(name: str) -> None:
        calls[name] += 1

    handles = [
        leaves[name].register_forward_hook(lambda *_, name=name: count(name))  # type: ignore[misc]
        for name in calls
    ]
    network(values)
    for handle in handles:
        handle.remove()
    return calls


@pytest.mark.parametrize(("kind", "expected"), [(nn.LSTM, 2), (nn.GRU, 4)])
def test_the_steps_share_their_parameters(kind: type[nn.RNNBase], expected: int) -> None:
    """A weight and a bias for the LSTM's joined map; two weights and two tensors of biases for the GRU."""
    network = _reader(kind)
    CANONIZERS[kind](num_steps=6).apply(network)
    assert len([*network.layer.parameters()]) == expected


def test_unrolling_draws_no_random_numbers() -> None:
    network = _reader()
    before = torch.get_rng_state()
    UnrollLSTM(num_steps=6).apply(network)
    assert torch.equal(torch.get_rng_state(), before)


def test_projections_are_refused_and_nothing_is_changed() -> None:
    network = nn.ModuleList([nn.LSTM(5, 3), nn.LSTM(5, 3, proj_size=2)])
    with pytest.raises(
        ExplanationError, match="an LSTM with proj_size = 2 cannot be unrolled for LRP, only one without"
    ):
        UnrollLSTM().apply(network)
    assert [type(layer) for layer in network] == [nn.LSTM, nn.LSTM]


def test_a_packed_or_single_sequence_is_named() -> None:
    network = _reader()
    UnrollLSTM().apply(network)
    with pytest.raises(ExplanationError, match=r"takes sequences \[B, T, D\] as one tensor, got \(6, 5\)"):
        network.layer(_sequence()[0])
    packed = nn.utils.rnn.pack_sequence([_sequence()[0]])
    with pytest.raises(ExplanationError, match="got PackedSequence"):
        network.layer(packed)


STABILIZER = 1e-6


def _share(z_i: Tensor, z: Tensor, relevance: Tensor) -> Tensor:
    """Arras et al. 2017, eq. 1 with δ = 0: R_i←j = z_i / (z_j + ε·sign(z_j)) · R_j."""
    return z_i / (z + STABILIZER * torch.where(z < 0, -1.0, 1.0)) * relevance


def _naive_relevance(network: _Reader, sequence: Tensor, target: int) -> Tensor:
    """LRP of an LSTM after Arras et al. 2017, section 3, for one clip [T, D], neuron by neuron and step by step."""
    weights = {name: value.detach() for name, value in network.layer.named_parameters()}
    w_x, w_h = weights["weight_ih_l0"].chunk(4), weights["weight_hh_l0"].chunk(4)
    num_steps, size = len(sequence), network.layer.hidden_size
    bias = (weights["bias_ih_l0"] + weights["bias_hh_l0"]).chunk(4) if network.layer.bias else [torch.zeros(size)] * 4
    hidden, cell = [torch.zeros(size, dtype=torch.float64)], [torch.zeros(size, dtype=torch.float64)]
    steps = []
    for values in sequence:
        i, f, g, o = (w_x[k] @ values + w_h[k] @ hidden[-1] + bias[k] for k in range(4))
        steps.append((i.sigmoid(), f.sigmoid(), g, o.sigmoid()))
        cell.append(f.sigmoid() * cell[-1] + i.sigmoid() * g.tanh())
        hidden.append(o.sigmoid() * cell[-1].tanh())
    head = network.head.weight.detach()
    score = head @ hidden[-1] + network.head.bias.detach()
    relevance = torch.zeros_like(sequence)
    of_hidden = _share(head[target] * hidden[-1], score[target], score[target])
    of_cell = torch.zeros_like(of_hidden)
    for t in reversed(range(num_steps)):
        i, f, g, _ = steps[t]
        of_cell = of_cell + of_hidden  # h = o·tanh(c): the gate o gets nothing, tanh hands on
        kept, new = f * cell[t], i * g.tanh()
        of_signal = _share(new, kept + new, of_cell)
        of_cell = _share(kept, kept + new, of_cell)
        of_hidden = torch.zeros_like(of_cell)
        for j in range(size):  # g = W_x x + W_h h + b
            relevance[t] += _share(w_x[2][j] * sequence[t], g[j], of_signal[j])
            of_hidden += _share(w_h[2][j] * hidden[t], g[j], of_signal[j])
    return relevance


def _composite(epsilon: float = STABILIZER, **kwargs: object) -> LayerMapComposite:
    layer_map = [
        (Gate, SignalTakesAll()),
        ((nn.Tanh, nn.Sigmoid), Pass()),
        (Sum, Norm(stabilizer=epsilon)),
        (nn.Linear, Epsilon(epsilon=epsilon, **kwargs)),
    ]
    return LayerMapComposite(layer_map, canonizers=[UnrollLSTM(), UnrollGRU()])


@pytest.mark.parametrize("bias", [True, False])
def test_relevance_is_that_of_the_lstm_written_out(bias: bool) -> None:
    network, sequence = _reader(bias=bias).requires_grad_(requires_grad=False), _sequence(3)
    for target in range(4):
        found = _explain(network, sequence, target, _composite())
        for clip, clip_sequence in enumerate(sequence):
            expected = _naive_relevance(network, clip_sequence, target)
            assert (found[clip] - expected).abs().max() < 1e-9 * expected.abs().max()


@kinds
@pytest.mark.parametrize(("num_layers", "bidirectional"), [(2, False), (1, True), (2, True)])
def test_relevance_adds_up_to_the_score(kind: type[nn.RNNBase], num_layers: int, bidirectional: bool) -> None:
    network = _reader(kind, num_layers=num_layers, bidirectional=bidirectional)
    found = _explain(network, _sequence(), 1, _composite(1e-12, zero_params=["bias"]))
    torch.testing.assert_close(found.sum(dim=(1, 2)), network(_sequence())[:, 1].detach(), rtol=1e-4, atol=1e-6)


def _explain(network: _Reader, sequence: Tensor, target: int, composite: LayerMapComposite) -> Tensor:
    leaf = sequence.clone().requires_grad_()
    with composite.context(network) as hooked:
        scores = hooked(leaf)
        start = torch.zeros_like(scores)
        start[:, target] = scores[:, target].detach()
        (relevance,) = torch.autograd.grad(scores, leaf, start)
    return relevance


def test_gates_get_no_relevance() -> None:
    """The rows of the map that make the gates i, f and o hand nothing down."""
    network, sequence = _reader().requires_grad_(requires_grad=False), _sequence(3)
    expected = _explain(network, sequence, 0, _composite())
    UnrollLSTM(num_steps=3).apply(network)
    fixed = copy.deepcopy(network)
    steps = [step for step in fixed.layer.modules() if isinstance(step, LSTMStep)]
    for step, gates in zip(steps, _gates(network, sequence), strict=True):
        step.gates = _Fixed(step.gates, gates)
    assert torch.allclose(_explain(fixed, sequence, 0, _composite()), expected, rtol=1e-12, atol=0)


class _Fixed(nn.Module):
    """A linear map whose parts for the gates i, f and o are constants."""

    def __init__(self, linear: nn.Linear, values: Tensor) -> None:
        super().__init__()
        self.linear, self.values = linear, values

    def forward(self, joined: Tensor) -> Tensor:
        i, f, _, o = self.values.chunk(4, dim=1)
        return torch.cat([i, f, self.linear(joined).chunk(4, dim=1)[2], o], dim=1)


def _gates(network: _Reader, sequence: Tensor) -> list[Tensor]:
    """Give what the map of each step puts out."""
    found: list[Tensor] = []
    steps = [step for step in network.layer.modules() if isinstance(step, LSTMStep)]
    handles = [step.gates.register_forward_hook(lambda *passed: found.append(passed[2].detach())) for step in steps]
    network(sequence)
    for handle in handles:
        handle.remove()
    return found
