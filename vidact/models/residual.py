"""A slim 3-D residual network for data sets of a thousand clips."""

from jaxtyping import Float
from torch import Tensor, nn

from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError
from vidact.models.layers import InputLayers, Sum, check_input

SMALLEST_SIDE_PIXELS = 16


class ResidualBlock(nn.Module):
    """Two 3×3×3 convolutions beside a shortcut: ReLU(F(x) + S(x)) (He et al., Deep residual learning, 2016, fig. 2).

    The shortcut is the input itself; with a stride the voxels at its steps, and zeros for new features (option A
    there). It has no weights and no bias, so that no relevance is lost on it.

    Args:
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        stride: Of the first convolution and of the shortcut, over time, height and width.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int, int] = (1, 1, 1)) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(),
            nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm3d(out_channels),
        )
        self.stride, self.new_channels = stride, out_channels - in_channels
        self.sum = Sum()
        self.activation = nn.ReLU()

    def forward(self, features: Float[Tensor, "B F T H W"]) -> Float[Tensor, "B G S I J"]:
        """Add what the convolutions make of the features to the features."""
        t, h, w = self.stride
        # Slices and zeros only move numbers: unlike a 1×1×1 convolution, the shortcut needs no relevance rule.
        shortcut = nn.functional.pad(features[:, :, ::t, ::h, ::w], (0, 0, 0, 0, 0, 0, 0, self.new_channels))
        activated: Tensor = self.activation(self.sum(self.residual(features), shortcut))
        return activated


class SlimResNet3D(nn.Module):
    """A residual network over space and time that is small enough to be trained from scratch on a thousand clips.

    A stem (3×5×5, stride 2 over space), then one stage of residual blocks per width, the mean over space and time, and
    one linear layer. From the second stage on each halves height and width; the last two stages halve time as well.
    With the default widths it has 0.9 million parameters. With `time_stride` 2 the stem is 5×5×5 and halves time, at
    half the cost.

    Args:
        num_classes: K.
        num_frames: T.
        channels: C, 1 for gray and 3 for colour.
        size: Side in pixels, or height and width.
        differences: Whether the network sees frame differences instead of frames.
        widths: Channels of each stage.
        blocks_per_stage: Residual blocks in each stage.
        dropout: Share of the features that are dropped in training, before the last layer.
        time_stride: Of the stem, 1 or 2.

    Raises:
        ConfigError: the frames are too small, or there are no stages or blocks, or no such stride.
    """

    gradcam_layer = "stages"  # the last convolution lacks the shortcut beside it

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        channels: int = 1,
        size: int | tuple[int, int] = 100,
        differences: bool = False,
        widths: tuple[int, ...] = (16, 32, 64, 128),
        blocks_per_stage: int = 1,
        dropout: float = 0.3,
        time_stride: int = 1,
    ) -> None:
        super().__init__()
        height, width = height_and_width(size)
        if min(height, width) < SMALLEST_SIDE_PIXELS:
            raise ConfigError(f"this network needs frames of {SMALLEST_SIDE_PIXELS} pixels or more, got {size = }")
        if not widths or list(widths) != sorted(widths) or blocks_per_stage < 1:
            raise ConfigError(
                "a residual network has one block or more per stage and one width or more, none narrower than the one "
                f"before; got {widths = }, {blocks_per_stage = }"
            )
        if time_stride not in (1, 2):
            raise ConfigError(f"the stem's time_stride is 1 or 2, got {time_stride}")
        self.input_shape = (channels, num_frames, height, width)
        self.input = InputLayers(channels, differences=differences)
        depth = 2 * time_stride + 1  # frames that the stem sees at once
        kernel, stride, padding = (depth, 5, 5), (time_stride, 2, 2), (depth // 2, 2, 2)
        self.stem = nn.Sequential(
            nn.Conv3d(channels, widths[0], kernel, stride, padding, bias=False),
            nn.BatchNorm3d(widths[0]),
            nn.ReLU(),
        )
        self.stages = nn.Sequential(*_stages(widths, blocks_per_stage))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1], num_classes)
        )

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        check_input(video, self.input_shape)
        scores: Tensor = self.head(self.stages(self.stem(self.input(video))))
        return scores


def _stages(widths: tuple[int, ...], blocks_per_stage: int) -> list[nn.Sequential]:
    """Build one stage per width; a stage changes width and shape in its first block."""
    stages = []
    for number, (before, after) in enumerate(zip((widths[0], *widths), widths, strict=False)):
        time_stride = 2 if number >= max(1, len(widths) - 2) else 1
        stride = (time_stride, 2, 2) if number else (1, 1, 1)
        first = ResidualBlock(before, after, stride)
        stages.append(nn.Sequential(first, *(ResidualBlock(after, after) for _ in range(blocks_per_stage - 1))))
    return stages
