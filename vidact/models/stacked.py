"""The 2020 report's network: the frames of a clip as channels of one picture, two convolutions, two dense layers."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError
from vidact.models.layers import FramesAsChannels, InputLayers, check_input, choose

SMALLEST_SIDE_PIXELS = 6


class StackedFramesCNN(nn.Module):
    """Conv 3×3×32, Conv 3×3×64, max-pool 2, then a head; ReLU after each layer but the last, no padding.

    With the dense head (512 units), 16 gray frames of 100×100 pixels and 8 classes it is the report's network
    with its 75,525,224 parameters.

    Args:
        num_classes: K.
        num_frames: T.
        channels: C, 1 for gray and 3 for colour.
        size: Side in pixels, or height and width.
        head: `dense`, the report's; `pooled` averages each feature over the picture and has one linear layer.
        differences: Whether the network sees frame differences instead of frames.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        channels: int = 1,
        size: int | tuple[int, int] = 100,
        head: Literal["dense", "pooled"] = "dense",
        differences: bool = False,
    ) -> None:
        super().__init__()
        height, width = height_and_width(size)
        if min(height, width) < SMALLEST_SIDE_PIXELS:
            raise ConfigError(f"this network needs frames of {SMALLEST_SIDE_PIXELS} pixels or more, got {size = }")
        self.input_shape = (channels, num_frames, height, width)
        self.input = InputLayers(channels, differences=differences)
        self.features = nn.Sequential(
            FramesAsChannels(),
            nn.Conv2d(channels * num_frames, 32, kernel_size=3),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=3),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = choose(_HEADS, head, setting="head")(64, ((height - 4) // 2, (width - 4) // 2), num_classes)

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        check_input(video, self.input_shape)
        scores: Tensor = self.head(self.features(self.input(video)))
        return scores


def _dense_head(features: int, size: tuple[int, int], num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(features * size[0] * size[1], 512), nn.ReLU(), nn.Linear(512, num_classes)
    )


def _pooled_head(features: int, size: tuple[int, int], num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(size), nn.Flatten(), nn.Linear(features, num_classes))


_HEADS = {"dense": _dense_head, "pooled": _pooled_head}
