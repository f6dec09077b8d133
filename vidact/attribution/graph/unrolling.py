"""Canonizers that unroll LSTMs and GRUs into modules, step by step, so that LRP can follow them.

Arras et al., Explaining recurrent neural network predictions in sentiment analysis, 2017, and Explaining and
interpreting LSTMs, 2019: in a product of a gate and a signal the signal takes all relevance; linear maps and sums
have the ε rule; tanh and σ pass it on.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from zennit.canonizers import Canonizer

from vidact.core.errors import ExplanationError
from vidact.models.layers import Gate, Sum
from vidact.models.recurrent import LSTMStep, shared_copies


class _Unroll(Canonizer):  # type: ignore[misc]
    """Replaces recurrent layers of one kind; the network's outputs in eval mode stay the same.

    Args:
        num_steps: How many steps get modules of their own; a longer sequence calls the last again. None takes
            the `num_steps` of the network or of the first module that has one, else one.
    """

    kind: type[nn.RNNBase]
    build_steps: Callable[..., list[nn.Module]]

    def __init__(self, num_steps: int | None = None) -> None:
        super().__init__()
        self.num_steps = num_steps
        self._replaced: list[tuple[nn.Module, str, nn.Module]] = []

    def apply(self, root_module: nn.Module) -> list[Canonizer]:
        """Unroll every layer of this kind below `root_module`; gives a canonizer that can be removed.

        Raises:
            ExplanationError: a layer has projections.
        """
        places = [
            (parent, name, layer)
            for parent in root_module.modules()
            for name, layer in parent._modules.items()  # not named_children, which gives a layer once
            if isinstance(layer, self.kind)
        ]
        if not places:
            return []
        instance = self.copy()
        instance.register(places, num_steps=self.num_steps or _num_steps(root_module))
        return [instance]

    def register(self, places: Sequence[tuple[nn.Module, str, nn.RNNBase]], *, num_steps: int) -> None:
        """Replace layers: each is named by the module that holds it and its name there."""
        unrolled = {layer: Unrolled(layer, num_steps=num_steps, build_steps=self.build_steps) for *_, layer in places}
        self._replaced = list(places)
        for parent, name, layer in places:
            setattr(parent, name, unrolled[layer])

    def remove(self) -> None:
        """Undo the unrolling."""
        for parent, name, layer in self._replaced:
            setattr(parent, name, layer)
        self._replaced = []

    def copy(self) -> "_Unroll":
        """Copy the canonizer."""
        return type(self)(self.num_steps)


class Unrolled(nn.Module):
    """A recurrent layer as steps: every layer, direction and moment has modules of its own, which share parameters.

    Args:
        layer: `nn.LSTM` or `nn.GRU`.
        num_steps: How many steps get modules of their own; a longer sequence calls the last again.
        build_steps: Builds the modules from the layer, the ending of its parameters' names and the number of steps.

    Raises:
        ExplanationError: the layer has projections.
    """

    def __init__(self, layer: nn.RNNBase, *, num_steps: int, build_steps: Callable[..., list[nn.Module]]) -> None:
        super().__init__()
        if layer.proj_size:
            raise ExplanationError(
                f"an {layer.mode} with proj_size = {layer.proj_size} cannot be unrolled for LRP, only one without "
                "projection; train it with proj_size=0, or use a gradient method"
            )
        self.input_size, self.hidden_size, self.num_layers = layer.input_size, layer.hidden_size, layer.num_layers
        self.batch_first, self.bidirectional = layer.batch_first, layer.bidirectional
        self._num_states = 2 if isinstance(layer, nn.LSTM) else 1
        endings = [f"_l{number}{way}" for number in range(self.num_layers) for way in self._ways()]
        self.passes = nn.ModuleList(
            nn.ModuleList(build_steps(layer, ending=ending, num_steps=num_steps)) for ending in endings
        )
        self.train(layer.training)

    def forward(
        self, input: Tensor | PackedSequence, hx: tuple[Tensor, Tensor] | Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...] | Tensor]:
        """Compute what the layer computes: all hidden states of the last layer, and the last states of all layers.

        Raises:
            ExplanationError: the input is not [B, T, D] (or [T, B, D]).
        """
        if not isinstance(input, Tensor) or input.ndim != 3:
            shape = tuple(input.shape) if isinstance(input, Tensor) else type(input).__name__
            raise ExplanationError(f"an unrolled LSTM or GRU takes sequences [B, T, D] as one tensor, got {shape}")
        sequence = input if self.batch_first else input.transpose(0, 1)
        first = self._first_state(sequence, hx)
        last: list[tuple[Tensor, ...]] = []
        for number in range(self.num_layers):
            sequence, ends = self._layer(sequence, first, number=number)
            last += ends
        states = tuple(torch.stack(part) for part in zip(*last, strict=True))
        return sequence if self.batch_first else sequence.transpose(0, 1), states if len(states) == 2 else states[0]

    def flatten_parameters(self) -> None:
        """Do nothing; networks may call it, as on an LSTM, whose weights it arranges for cuDNN."""

    def _ways(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _first_state(
        self, sequence: Float[Tensor, "B T D"], state: tuple[Tensor, Tensor] | Tensor | None
    ) -> tuple[Float[Tensor, "L B F"], ...]:
        if state is None:
            zeros = sequence.new_zeros(len(self.passes), len(sequence), self.hidden_size)
            return (zeros,) * self._num_states
        return (state,) if isinstance(state, Tensor) else state

    def _layer(
        self, sequence: Float[Tensor, "B T D"], first: tuple[Tensor, ...], *, number: int
    ) -> tuple[Float[Tensor, "B T G"], list[tuple[Tensor, ...]]]:
        """Run one layer in each direction: its hidden states, side by side, and its last states."""
        outputs, ends = [], []
        for way in range(len(self._ways())):
            place = number * len(self._ways()) + way
            steps, state = self.passes[place], tuple(part[place] for part in first)
            assert isinstance(steps, nn.ModuleList)
            hidden = []
            for moment, values in enumerate(reversed(sequence.unbind(1)) if way else sequence.unbind(1)):
                state = steps[min(moment, len(steps) - 1)](values, state)
                hidden.append(state[0])
            outputs.append(torch.stack(hidden[::-1] if way else hidden, dim=1))
            ends.append(state)
        return torch.cat(outputs, dim=2), ends


class GRUStep(nn.Module):
    """One step of a GRU (Cho et al. 2014) as PyTorch defines it, made of modules that LRP can follow.

    r, z = σ(W [x, h] + b);  n = tanh(W_x x + b_x + r·(W_h h + b_h));  h' = (1 − z)·n + z·h

    Args:
        from_input: Linear, from the input [B, D] to its parts of r, z and n [B, 3·F], with the biases of r and z.
        from_hidden: Linear, from the hidden state [B, F] to its parts of r, z and n.
        biases: b_x and b_h [2, F].
    """

    def __init__(self, from_input: nn.Linear, from_hidden: nn.Linear, biases: Float[Tensor, "2 F"]) -> None:
        super().__init__()
        self.from_input, self.from_hidden = from_input, from_hidden
        self.add_gates, self.squash_gates = Sum(), nn.Sigmoid()
        self.reset_gate, self.add_signal = Gate(), Sum()
        self.add_biases, self.squash_signal = GatedBias(biases), nn.Tanh()
        self.complement, self.new_gate = _Complement(), Gate()
        self.keep_gate, self.add = Gate(), Sum()

    def forward(self, values: Float[Tensor, "B D"], state: tuple[Float[Tensor, "B F"]]) -> tuple[Float[Tensor, "B F"]]:
        """Compute the next hidden state."""
        size = 2 * state[0].shape[1]
        input_part, hidden_part = self.from_input(values), self.from_hidden(state[0])
        gates = self.squash_gates(self.add_gates(input_part[:, :size], hidden_part[:, :size]))
        reset, update = gates.chunk(2, dim=1)
        signal = self.add_signal(input_part[:, size:], self.reset_gate(hidden_part[:, size:], reset))
        signal = self.squash_signal(self.add_biases(signal, reset))
        new = self.new_gate(signal, self.complement(update))
        return (self.add(new, self.keep_gate(state[0], update)),)


class GatedBias(Gate):
    """Adds b_x + r·b_h to a signal, which takes all relevance: a bias is no input."""

    def __init__(self, biases: Float[Tensor, "2 F"]) -> None:
        super().__init__()
        self.biases = nn.Parameter(biases.detach(), requires_grad=biases.requires_grad)

    def forward(self, signal: Float[Tensor, "B F"], gate: Float[Tensor, "B F"]) -> Float[Tensor, "B F"]:
        """Add the biases."""
        return signal + self.biases[0] + gate * self.biases[1]


class _Complement(nn.Module):
    """Computes 1 − z."""

    def forward(self, gate: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        return 1 - gate


class UnrollLSTM(_Unroll):
    """Replaces each `nn.LSTM` by `LSTMStep`s; one linear map takes the input and the hidden state together."""

    kind = nn.LSTM

    @staticmethod
    def build_steps(layer: nn.RNNBase, *, ending: str, num_steps: int) -> list[nn.Module]:
        """Build the steps of one layer and direction."""
        weights = [getattr(layer, f"weight_{part}{ending}") for part in ("ih", "hh")]
        biases = [getattr(layer, f"bias_{part}{ending}") for part in ("ih", "hh")] if layer.bias else []
        gates = _linear(torch.cat(weights, dim=1), sum(biases) if biases else None)
        return shared_copies(LSTMStep(gates), num_steps)


class UnrollGRU(_Unroll):
    """Replaces each `nn.GRU` by `GRUStep`s."""

    kind = nn.GRU

    @staticmethod
    def build_steps(layer: nn.RNNBase, *, ending: str, num_steps: int) -> list[nn.Module]:
        """Build the steps of one layer and direction."""
        weights = [getattr(layer, f"weight_{part}{ending}") for part in ("ih", "hh")]
        none = weights[0].new_zeros(2, len(weights[0]))
        biases = torch.stack([getattr(layer, f"bias_{part}{ending}") for part in ("ih", "hh")]) if layer.bias else none
        of_signal = torch.arange(biases.shape[1], device=biases.device) >= 2 * layer.hidden_size
        from_input = _linear(weights[0], biases.sum(dim=0).masked_fill(of_signal, 0))
        return shared_copies(GRUStep(from_input, _linear(weights[1], None), biases[:, of_signal]), num_steps)


def _linear(weight: Float[Tensor, "J I"], bias: Float[Tensor, " J"] | None) -> nn.Linear:
    """Build a linear layer from its parameters, without drawing random numbers."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
    return linear


def _num_steps(network: nn.Module) -> int:
    numbers = (getattr(module, "num_steps", None) for module in network.modules())
    return next((number for number in numbers if isinstance(number, int)), 1)
