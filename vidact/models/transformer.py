"""A small transformer over tubelets of a video, which can be trained from scratch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.core.clips import height_and_width
from vidact.core.errors import ConfigError
from vidact.models.layers import InputLayers, check_input


class VideoTransformer(nn.Module):
    """A vision transformer whose tokens attend to each other over space and time at once.

    Model 1 of Arnab et al., ViViT: a video vision transformer, 2021: the video is cut into tubelets, blocks of a few
    frames and pixels that do not overlap (section 3.2 there), and one linear layer makes a token of each. Each token
    gets its learned position, then all go through blocks of attention and two-layer perceptrons. Instead of a class
    token, the mean over all tokens goes to the last layer. With the defaults it has 0.8 million parameters.

    Args:
        num_classes: K.
        num_frames: T.
        channels: C, 1 for gray and 3 for colour.
        size: Side in pixels, or height and width.
        differences: Whether the network sees frame differences instead of frames.
        tubelet: Frames, rows and columns of a tubelet; they divide the clip's.
        width: D, features of a token; a multiple of `heads`.
        depth: Number of blocks.
        heads: Attention heads of a block.
        mlp_ratio: Width of the perceptrons' inner layer, as a multiple of `width`.
        dropout: Share of the features that are dropped in training, behind each layer of a block.

    Raises:
        ConfigError: tubelets do not divide the clip, heads do not divide the width, or there is no block.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        channels: int = 1,
        size: int | tuple[int, int] = 48,
        differences: bool = False,
        tubelet: tuple[int, int, int] = (4, 8, 8),
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        mlp_ratio: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input_shape = (channels, num_frames, *height_and_width(size))
        _check_divisions(self.input_shape[1:], tubelet, width=width, depth=depth, heads=heads)
        self.input = InputLayers(channels, differences=differences)
        self.embedding = nn.Conv3d(channels, width, kernel_size=tubelet, stride=tubelet)
        t, h, w = (of // by for of, by in zip(self.input_shape[1:], tubelet, strict=True))
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(t * h * w, width), std=0.02))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width, heads, mlp_ratio * width, dropout, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        check_input(video, self.input_shape)
        tokens = self.embedding(self.input(video)).flatten(2).transpose(1, 2)  # [B, N, D]
        features = self.norm(self.blocks(tokens + self.positions))
        scores: Tensor = self.head(features.mean(dim=1))
        return scores


def _check_divisions(
    clip: tuple[int, int, int], tubelet: tuple[int, int, int], *, width: int, depth: int, heads: int
) -> None:
    """Refuse tubelets that do not divide the clip, heads that do not divide the width, and no block."""
    if min(tubelet) < 1 or any(of % by for of, by in zip(clip, tubelet, strict=True)):
        raise ConfigError(
            f"tubelets must divide the clip's frames, height and width, {list(clip)}; got tubelet {list(tubelet)}"
        )
    if min(width, depth, heads) < 1 or width % heads:
        raise ConfigError(
            "a transformer has one block or more, and its heads divide its width; "
            f"got {depth = }, {heads = }, {width = }"
        )
