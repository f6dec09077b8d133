"""Networks that read a clip frame by frame with a memory: CNN + LSTM, and the ConvLSTM layer."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError
from vidact.models.layers import Gate, InputLayers, Sum, check_input

SMALLEST_SIDE_PIXELS = 8
_GRID = 4


class CNNLSTM(nn.Module):
    """A small CNN for each frame, an LSTM over the frames, and a linear layer on its last hidden state.

    The CNN sees all frames in one call, with time folded into the batch. It ends with a grid of 4×4 places, so that
    the LSTM can tell where something moves. Before it is explained by LRP, the LSTM must be unrolled
    (`vidact.attribution.graph.unrolling.UnrollLSTM`).

    Args:
        num_classes: K.
        num_frames: T.
        channels: C, 1 for gray and 3 for colour.
        size: Side in pixels, or height and width.
        differences: Whether the network sees frame differences instead of frames.
        widths: Features of the CNN's convolutions; each halves the picture.
        hidden_size: Units of the LSTM.
        dropout: Share of the last hidden state that is dropped in training.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        channels: int = 1,
        size: int | tuple[int, int] = 100,
        differences: bool = False,
        widths: tuple[int, int, int] = (16, 32, 64),
        hidden_size: int = 128,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.input_shape = (channels, num_frames, *height_and_width(size))
        check_side(self.input_shape[2:])
        self.num_steps = num_frames  # so many steps get modules of their own when the LSTM is unrolled
        self.input = InputLayers(channels, differences=differences)
        self.features = frame_features(channels, widths=widths)
        self.grid = nn.Sequential(nn.AdaptiveAvgPool2d(_GRID), nn.Flatten())
        self.lstm = nn.LSTM(widths[-1] * _GRID**2, hidden_size, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden_size, num_classes))

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        check_input(video, self.input_shape)
        frames = self.grid(self.features(fold_time(self.input(video))))
        hidden, _ = self.lstm(frames.unflatten(0, (len(video), self.num_steps)))  # [B, T, F]
        scores: Tensor = self.head(hidden[:, -1])
        return scores


class LSTMStep(nn.Module):
    """One step of an LSTM (Hochreiter & Schmidhuber 1997), made of modules that LRP can follow.

    i, f, g, o = map([x, h]);  c' = σ(f)·c + σ(i)·tanh(g);  h' = σ(o)·tanh(c')

    One map takes the input and the hidden state together, so that a rule divides the relevance of g among both at
    once, as Arras et al. 2017 do, and the bias belongs to neither.

    Args:
        gates: Maps the joined input and hidden state [B, D + F, …] to i, f, g, o [B, 4·F, …]: linear or a convolution.
    """

    def __init__(self, gates: nn.Module) -> None:
        super().__init__()
        self.gates = gates
        self.squash_gate, self.squash_signal = nn.Sigmoid(), nn.Tanh()
        self.forget_gate, self.input_gate, self.add = Gate(), Gate(), Sum()
        self.squash_cell, self.output_gate = nn.Tanh(), Gate()

    def forward(
        self,
        values: Float[Tensor, "B D *space"],
        state: tuple[Float[Tensor, "B F *space"], Float[Tensor, "B F *space"]],
    ) -> tuple[Float[Tensor, "B F *space"], Float[Tensor, "B F *space"]]:
        """Compute the next hidden state and cell (h, c)."""
        hidden, cell = state
        i, f, g, o = self.gates(torch.cat([values, hidden], dim=1)).chunk(4, dim=1)
        kept = self.forget_gate(cell, self.squash_gate(f))
        new = self.input_gate(self.squash_signal(g), self.squash_gate(i))
        cell = self.add(kept, new)
        return self.output_gate(self.squash_cell(cell), self.squash_gate(o)), cell


class ConvLSTM(nn.Module):
    """Convolutional LSTM (Shi et al. 2015, eq. 3), without the peepholes W_c∘C.

    Each step has a convolution of its own, so that it is called once; all of them share one weight and one bias.

    Args:
        in_channels: D.
        hidden_channels: F.
        num_frames: T.
        kernel_size: Side of the convolution, odd.
    """

    def __init__(self, in_channels: int, hidden_channels: int, *, num_frames: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        gates = nn.Conv2d(in_channels + hidden_channels, 4 * hidden_channels, kernel_size, padding=kernel_size // 2)
        # A module that is called once per clip keeps its relevance apart, as Zennit's hooks need it.
        self.steps = nn.ModuleList(shared_copies(LSTMStep(gates), num_frames))

    def forward(self, features: Float[Tensor, "B T D H W"]) -> Float[Tensor, "B T F H W"]:
        """Compute the hidden state after each frame."""
        zeros = features.new_zeros(len(features), self.hidden_channels, *features.shape[3:])
        hidden, cell = zeros, zeros
        states = []
        for step, frame in zip(self.steps, features.unbind(dim=1), strict=True):
            hidden, cell = step(frame, (hidden, cell))
            states.append(hidden)
        return torch.stack(states, dim=1)


def shared_copies(module: nn.Module, count: int) -> list[nn.Module]:
    """List a module and copies of it that share its parameters."""
    parameters = list(module.parameters())
    # What deepcopy finds in its memo is shared instead of copied.
    return [module, *(copy.deepcopy(module, {id(p): p for p in parameters}) for _ in range(count - 1))]


def frame_features(channels: int, *, widths: tuple[int, int, int]) -> nn.Sequential:
    """Build a small CNN for single frames: three times convolution 3×3, BatchNorm, ReLU and max-pooling by 2."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers)


def fold_time(video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "BT C H W"]:
    """Fold the frames into the batch: one picture per frame."""
    return video.transpose(1, 2).flatten(0, 1)


def check_side(size: tuple[int, int]) -> None:
    """Check that pictures can be halved three times.

    Args:
        size: Height and width in pixels.

    Raises:
        ConfigError: a side is too small.
    """
    if min(size) < SMALLEST_SIDE_PIXELS:
        raise ConfigError(f"this network needs frames of {SMALLEST_SIDE_PIXELS} pixels or more, got {size = }")
