"""Four ways to join the frames of a clip in a 2-D network: single frame, early, late and slow fusion.

Karpathy et al., Large-scale video classification with convolutional neural networks, 2014, section 3.1. All four are
one tower of five convolutions and a dense head. They differ in how far each convolution reaches over time. A
convolution that reaches over one frame is the paper's shared 2-D network, applied to all frames in one call.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError
from vidact.models.layers import InputLayers, check_input, choose

TimeExtents = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # (kernel, stride) of the first three layers
Preset = Literal["lean", "paper"]
STILL = (1, 1)
SPORTS_1M_CLASSES = 487


@dataclass(frozen=True)
class Convolution:
    """One convolution over space, then (BatchNorm,) ReLU (and max-pool 2×2).

    Attributes:
        filters: How many.
        kernel: Side in pixels.
        stride: In pixels.
        padding: In pixels.
        normalised: Whether BatchNorm follows; its shift replaces the convolution's bias.
        pooled: Whether the layer ends with a max-pool of 2×2 pixels.
    """

    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    normalised: bool = False
    pooled: bool = False

    def side(self, pixels: int) -> int:
        """Compute the side of the output for an input of so many pixels."""
        out = (pixels + 2 * self.padding - self.kernel) // self.stride + 1
        return out // 2 if self.pooled else out


@dataclass(frozen=True)
class Layout:
    """The numbers of a network: its five convolutions, and the widths of its hidden dense layers."""

    convolutions: tuple[Convolution, Convolution, Convolution, Convolution, Convolution]
    dense: tuple[int, ...]


# The paper gives no padding. This one keeps the sides of Krizhevsky et al. 2012, whom it follows: 54, 27, 13, 6.
_PAPER = Layout(
    (
        Convolution(96, kernel=11, stride=3, normalised=True, pooled=True),
        Convolution(256, kernel=5, padding=2, normalised=True, pooled=True),
        Convolution(384, kernel=3, padding=1),
        Convolution(384, kernel=3, padding=1),
        Convolution(256, kernel=3, padding=1, pooled=True),
    ),
    dense=(4096, 4096),
)
_LEAN = Layout(
    (
        Convolution(32, kernel=7, stride=2, normalised=True, pooled=True),
        Convolution(64, kernel=5, padding=2, normalised=True, pooled=True),
        Convolution(128, kernel=3, padding=1, normalised=True),
        Convolution(128, kernel=3, padding=1, normalised=True),
        Convolution(128, kernel=3, padding=1, normalised=True, pooled=True),
    ),
    dense=(256,),
)
_LAYOUTS = {"paper": _PAPER, "lean": _LEAN}


class FusionNetwork(nn.Module):
    """Base of the four networks: the tower and the head; each network says how far it reaches over time.

    BatchNorm replaces the paper's local response normalisation: with fixed statistics at test time it merges into its
    convolution, so that LRP passes through it. Dropout follows each hidden dense layer.

    Args:
        num_classes: K.
        num_frames: T.
        channels: C, 1 for gray and 3 for colour.
        size: Side in pixels, or height and width.
        preset: `lean` trains on a thousand clips without a GPU; `paper` has the paper's layers.
        differences: Whether the network sees frame differences instead of frames.
        dropout: Share of the hidden units that are dropped in training.

    Raises:
        ConfigError: the frames are too small or their number does not fit.
    """

    paper_frames = 10

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        channels: int = 1,
        size: int | tuple[int, int] = 100,
        preset: Preset = "lean",
        differences: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        layout = choose(_LAYOUTS, preset, setting="preset")
        height, width = height_and_width(size)
        _check_size(layout, (height, width))
        self.input_shape = (channels, num_frames, height, width)
        self.input = InputLayers(channels, differences=differences)
        self.features = nn.Sequential(*_tower(layout, channels, self._time_extents(num_frames, preset)))
        self.features.extend(self._after_the_tower(num_frames))
        positions = _side(layout, height) * _side(layout, width) * self._num_streams()
        widths = (layout.convolutions[-1].filters * positions, *layout.dense)
        self.head = nn.Sequential(nn.Flatten(), *_hidden(widths, dropout), nn.Linear(widths[-1], num_classes))

    @classmethod
    def paper(cls, num_classes: int = SPORTS_1M_CLASSES) -> "FusionNetwork":
        """Build the network at the paper's shapes: 170×170 pixels in colour, and 487 classes of sports."""
        return cls(num_classes, num_frames=cls.paper_frames, channels=3, size=170, preset="paper")

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        check_input(video, self.input_shape)
        scores: Tensor = self.head(self.features(self.input(video)))
        return scores

    @staticmethod
    def _time_extents(num_frames: int, preset: Preset) -> TimeExtents:
        return STILL, STILL, STILL

    @staticmethod
    def _after_the_tower(num_frames: int) -> list[nn.Module]:
        return []

    @staticmethod
    def _num_streams() -> int:
        return 1


class SingleFrame(FusionNetwork):
    """Scores each frame alone; a clip's logits are the mean of its frames' logits.

    The paper's network takes one frame (`num_frames=1`) and averages over a video outside of the network. Here the
    mean is a layer, so that each frame gets its share of the relevance. It cannot see motion, whatever it is shown,
    unless `differences` is on.
    """

    paper_frames = 1

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        channels: int = 1,
        size: int | tuple[int, int] = 100,
        preset: Preset = "lean",
        differences: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(num_classes, num_frames, channels, size, preset, differences, dropout)
        self.mean_over_frames = nn.AvgPool1d(num_frames)

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        check_input(video, self.input_shape)
        # The convolutions reach over one frame, so that all frames go through them in one call.
        features = self.features(self.input(video)).transpose(1, 2)  # [B, T, F, h, w]
        per_frame = self.head(features.flatten(0, 1)).unflatten(0, features.shape[:2])  # [B, T, K]
        scores: Tensor = self.mean_over_frames(per_frame.transpose(1, 2)).squeeze(2)
        return scores


class EarlyFusion(FusionNetwork):
    """The first convolution reaches over all frames at once; from there on the network sees one picture."""

    @staticmethod
    def _time_extents(num_frames: int, preset: Preset) -> TimeExtents:
        return (num_frames, 1), STILL, STILL


class LateFusion(FusionNetwork):
    """Two streams with shared weights, one for each half of the clip, meet in the first dense layer.

    The paper has one frame per stream, 15 frames apart: `num_frames=2`, with data of stride 15. With more frames a
    stream is the mean of the features over its half, so that each frame counts. An odd number of frames shares the
    middle one.

    Raises:
        ConfigError: fewer than 2 frames.
    """

    paper_frames = 2

    @staticmethod
    def _after_the_tower(num_frames: int) -> list[nn.Module]:
        if num_frames < 2:
            raise ConfigError(f"late fusion needs 2 frames or more, got {num_frames = }")
        half = num_frames // 2
        return [nn.AvgPool3d((num_frames - half, 1, 1), stride=(half, 1, 1))]

    @staticmethod
    def _num_streams() -> int:
        return 2


class SlowFusion(FusionNetwork):
    """The first three convolutions reach further and further over time, until the third has seen all frames.

    (kernel, stride) over time: (4, 2), (3, 2), (3, 1) for 16 frames: 16 → 7 → 3 → 1. The paper's are (4, 2), (2, 2),
    (2, 2) for 10 frames: 10 → 4 → 2 → 1. With other numbers of frames the third kernel takes all that is left.

    Raises:
        ConfigError: a number of frames of which the last ones would be ignored.
    """

    @staticmethod
    def _time_extents(num_frames: int, preset: Preset) -> TimeExtents:
        second = 2 if preset == "paper" else 3
        least, step = (6, 4) if preset == "paper" else (8, 4)
        if num_frames < least or (num_frames - least) % step:
            raise ConfigError(
                f"slow fusion takes {least}, {least + step}, {least + 2 * step}, … frames ({preset = }), so that none "
                f"is left out; got {num_frames = }"
            )
        left = ((num_frames - 4) // 2 + 1 - second) // 2 + 1  # frames after two convolutions of stride 2, no padding
        return (4, 2), (second, 2), (left, left)


def _tower(layout: Layout, channels: int, time_extents: TimeExtents) -> list[nn.Module]:
    """Build the convolutions, each with what follows it, as one flat list in the order of calling."""
    modules: list[nn.Module] = []
    for convolution, (extent, step) in zip(layout.convolutions, (*time_extents, STILL, STILL), strict=True):
        side, stride, padding = convolution.kernel, convolution.stride, convolution.padding
        modules.append(
            nn.Conv3d(
                channels,
                convolution.filters,
                kernel_size=(extent, side, side),
                stride=(step, stride, stride),
                padding=(0, padding, padding),
                bias=not convolution.normalised,
            )
        )
        channels = convolution.filters
        modules += [nn.BatchNorm3d(channels)] if convolution.normalised else []
        modules += [nn.ReLU(), *([nn.MaxPool3d((1, 2, 2))] if convolution.pooled else [])]
    return modules


def _hidden(widths: tuple[int, ...], dropout: float) -> list[nn.Module]:
    """Build the hidden dense layers from one width to the next."""
    layers = ([nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)] for before, after in pairwise(widths))
    return [module for layer in layers for module in layer]


def _side(layout: Layout, pixels: int) -> int:
    """Compute the side of the pictures that the tower puts out."""
    for convolution in layout.convolutions:
        pixels = convolution.side(pixels)
    return pixels


def _check_size(layout: Layout, size: tuple[int, int]) -> None:
    least = next(pixels for pixels in range(1, 1000) if _side(layout, pixels) >= 1)
    if min(size) < least:
        raise ConfigError(f"this network needs frames of {least} pixels or more, got size = {size}")
