"""torchvision's MViT for clips of any shape, divided into stages."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.video.mvit import MultiscaleBlock, PositionalEncoding
from torchvision.ops import Permute


class _Block(MultiscaleBlock):  # type: ignore[misc]  # torchvision has no types
    """A block of MViT for a grid (T, H, W) of tokens; Grad-CAM can look at `pictures`: all but the class token."""

    def __init__(self, input_size: list[int], **settings: Any) -> None:
        super().__init__(input_size, **settings)
        self.grid = (input_size[0], input_size[1], input_size[2])
        self.pictures = nn.Unflatten(2, self.grid)

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B M D"]:
        """Tell torchvision's block its grid."""
        pictures = self.pictures(tokens[:, 1:].transpose(1, 2))  # [B, C, T, H, W]
        joined = torch.cat([tokens[:, :1], pictures.flatten(2).transpose(1, 2)], dim=1)
        result: Tensor = super().forward(joined, self.grid)[0]
        return result


class ClassToken(nn.Module):
    """Takes the first token, the only one that the head of MViT sees."""

    def forward(self, tokens: Float[Tensor, "B N C"]) -> Float[Tensor, "B C"]:
        """Take it."""
        return tokens[:, 0]


def build_mvit(build: Callable[..., nn.Module], clip: tuple[int, int, int]) -> nn.Module:
    """Let torchvision build for clips of (T, H, W); by itself it makes tables of positions for 16×224×224 alone.

    Args:
        build: torchvision's function.
        clip: Frames, height and width of a clip.
    """
    grid = [-(-length // stride) for length, stride in zip(clip, (2, 4, 4), strict=True)]

    def block(input_size: list[int], **settings: Any) -> nn.Module:
        sides = [-(-side * input_size[1] // 56) for side in grid[1:]]  # torchvision's first grid is 8×56×56
        return _Block([grid[0], *sides], **settings)

    network = build(block=block)
    is_relative = network.get_submodule("pos_encoding").spatial_pos is None
    encoding = PositionalEncoding(96, (grid[1], grid[2]), grid[0], rel_pos_embed=is_relative)
    for parameter in encoding.parameters():
        nn.init.trunc_normal_(parameter, std=0.02)
    network.pos_encoding = encoding
    return network


def mvit_stages(network: nn.Module) -> OrderedDict[str, nn.Module]:
    """Split torchvision's network into patches and the blocks of each resolution, the last with the norm behind it."""
    conv, encoding, norm = (network.get_submodule(name) for name in ("conv_proj", "pos_encoding", "norm"))
    blocks = list(network.get_submodule("blocks").children())
    first, second, third = (number for number, block in enumerate(blocks) if block.pool_skip is not None)
    return OrderedDict(
        patches=nn.Sequential(conv, nn.Flatten(2), Permute([0, 2, 1]), encoding),
        blocks1=nn.Sequential(*blocks[:first]),
        blocks2=nn.Sequential(*blocks[first:second]),
        blocks3=nn.Sequential(*blocks[second:third]),
        blocks4=nn.Sequential(*blocks[third:], norm),
    )
