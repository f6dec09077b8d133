"""A Video Swin and a VideoMAE that are small enough for the synthetic clips, on torchvision's and transformers' code.

    cd examples
    python -m vidact fit --config hmdb51_tiny_vit --model.network small_transformers.SmallSwin
    python -m vidact explain runs/version_0 video.mp4 --trust small_transformers

The settings that vidact gives each network come by their names: num_classes, num_frames, channels, size; the rest are
those of the recipe.
"""

from torch import Tensor, nn
from torchvision.models.video import SwinTransformer3d
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from vidact.models.layers import InputLayers

PATCH = (4, 6, 6)  # frames, rows and columns of a token


class SmallSwin(nn.Module):
    """Attention in shifted windows, in two stages of two layers."""

    def __init__(self, num_classes: int, channels: int = 1, width: int = 64) -> None:
        super().__init__()
        self.input = InputLayers(channels, differences=True)
        self.network = SwinTransformer3d(
            patch_size=list(PATCH),
            embed_dim=width,
            depths=[2, 2],
            num_heads=[4, 8],
            window_size=[4, 4, 4],
            stochastic_depth_prob=0.0,
            num_classes=num_classes,
        )
        self.network.patch_embed.proj = nn.Conv3d(channels, width, PATCH, PATCH)
        for module in self.network.modules():  # torchvision's deviation of 0.02 is for wide networks
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def forward(self, video: Tensor) -> Tensor:
        """Classify clips [B, C, T, H, W]."""
        scores: Tensor = self.network(self.input(video))
        return scores


class SmallVideoMAE(nn.Module):
    """Joint attention over space and time, in four layers."""

    def __init__(
        self, num_classes: int, num_frames: int = 16, channels: int = 1, size: int = 48, width: int = 64
    ) -> None:
        super().__init__()
        self.input = InputLayers(channels, differences=True)
        config = VideoMAEConfig(
            image_size=size,
            patch_size=PATCH[1],
            num_channels=channels,
            num_frames=num_frames,
            tubelet_size=PATCH[0],
            hidden_size=width,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=4 * width,
            use_mean_pooling=True,
            num_labels=num_classes,
            initializer_range=0.1,  # 0.02 is for wide networks
        )
        self.network = VideoMAEForVideoClassification(config)

    def forward(self, video: Tensor) -> Tensor:
        """Classify clips [B, C, T, H, W]; transformers wants frames first."""
        scores: Tensor = self.network(self.input(video).transpose(1, 2)).logits
        return scores
