"""Small networks as people write them: transformers, and code that adds, averages and gates without modules.

Each takes videos [B, 3, 4, 16, 16] and gives 3 logits.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.video import MViT, SwinTransformer3d
from torchvision.models.video.mvit import MSBlockConfig
from torchvision.ops import StochasticDepth

CLIP = (3, 4, 16, 16)


def _tokens(width: int) -> nn.Module:
    """Embed tubelets of 2 x 4 x 4 voxels: 32 tokens."""
    return nn.Sequential(nn.Conv3d(3, width, (2, 4, 4), stride=(2, 4, 4)), nn.Flatten(2))


class Encoder(nn.Module):
    """torch's own encoder, with added positions."""

    def __init__(self, *, batch_first: bool = True, norm_first: bool = False, activation: str = "gelu") -> None:
        super().__init__()
        self.batch_first, self.embed = batch_first, _tokens(16)
        self.positions = nn.Parameter(torch.randn(1, 32, 16))
        layer = nn.TransformerEncoderLayer(
            16, 2, 24, batch_first=batch_first, norm_first=norm_first, activation=activation
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, video: Tensor) -> Tensor:
        tokens = self.embed(video).transpose(1, 2) + self.positions
        if not self.batch_first:
            tokens = tokens.transpose(0, 1)
        mask = torch.zeros(len(video), 32, dtype=torch.bool)
        mask[:, -3:] = True  # the last tokens are padding
        found = self.encoder(tokens, src_key_padding_mask=mask)
        return self.head(found.mean(dim=1 if self.batch_first else 0))  # type: ignore[no-any-return]


class RMSNorm(nn.Module):
    """Written out, as in many a repository."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, values: Tensor) -> Tensor:
        return values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Modern(nn.Module):
    """RMSNorm, rotary positions, fused attention with a mask, SwiGLU, einsum and a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.token = _tokens(16), nn.Parameter(torch.randn(1, 1, 16))
        self.first, self.second = RMSNorm(16), nn.RMSNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.gate, self.up, self.down = nn.Linear(16, 24), nn.Linear(16, 24, bias=False), nn.Linear(24, 16)
        self.head = nn.Parameter(torch.randn(3, 16))
        angle = torch.arange(33)[:, None] / 10 ** (torch.arange(4) / 4)
        self.register_buffer("cos", angle.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", angle.sin().repeat(1, 2), persistent=False)

    def _turned(self, values: Tensor) -> Tensor:
        first, second = values.chunk(2, dim=-1)
        return values * self.cos + torch.cat((-second, first), dim=-1) * self.sin  # type: ignore[operator]

    def forward(self, video: Tensor) -> Tensor:
        tokens = self.embed(video).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(video), -1, -1), tokens], dim=1)
        qkv = self.qkv(self.first(tokens)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind()
        mask = torch.ones(33, 33).tril(20).bool()
        found = F.scaled_dot_product_attention(self._turned(query), self._turned(key), value, attn_mask=mask)
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        hidden = self.second(tokens)
        tokens = tokens + self.down(F.silu(self.gate(hidden)) * self.up(hidden))
        return torch.einsum("bw,kw->bk", tokens[:, 0], self.head)


class QuickGELU(nn.Module):
    """x sigma(1.702 x)."""

    def forward(self, values: Tensor) -> Tensor:
        return values * torch.sigmoid(1.702 * values)


class TanhGELU(nn.Module):
    """GELU by tanh, written out."""

    def forward(self, values: Tensor) -> Tensor:
        inner = math.sqrt(2 / math.pi) * (values + 0.044715 * torch.pow(values, 3.0))
        return 0.5 * values * (1.0 + torch.tanh(inner))


class TimmBlock(nn.Module):
    """Attention written out, layer scale and stochastic depth, as timm writes a block; activations of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norms = _tokens(16), nn.ModuleList(nn.LayerNorm(16) for _ in range(3))
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.scale = nn.Parameter(torch.randn(16))
        self.mlp = nn.Sequential(nn.Linear(16, 24), QuickGELU(), nn.Linear(24, 16), TanhGELU())
        self.depth, self.head = StochasticDepth(0.5, "row"), nn.Linear(16, 3)

    def forward(self, video: Tensor) -> Tensor:
        tokens = self.embed(video).transpose(1, 2)
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norms[0](tokens)).reshape(batch, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        query, key, value = qkv[0], qkv[1], qkv[2]
        attention = (query * 0.35) @ key.transpose(-2, -1)
        attention = attention.softmax(dim=-1)
        tokens = tokens + self.depth((attention @ value).transpose(1, 2).reshape(batch, count, width) * self.scale)
        tokens = tokens + self.depth(self.mlp(self.norms[1](tokens)))
        return self.head(self.norms[2](tokens).mean(1))  # type: ignore[no-any-return]


class AttentionPooling(nn.Module):
    """A learned query asks frames; the weights of the attention are asked for, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 8, (1, 4, 4), stride=(1, 4, 4))
        self.query, self.pool = nn.Parameter(torch.randn(1, 1, 8)), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, video: Tensor) -> Tensor:
        frames = F.gelu(self.conv(video)).mean((3, 4)).transpose(1, 2)
        found, _ = self.pool(self.query.expand(len(video), -1, -1), frames, frames)
        return self.head(F.normalize(found[:, 0], dim=1))  # type: ignore[no-any-return]


class Efficient(nn.Module):
    """As X3D: depthwise convolutions, squeeze and excitation, swish, residual sums in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv3d(3, 8, 3, stride=(1, 2, 2), padding=1, bias=False), nn.BatchNorm3d(8)
        self.deep = nn.Conv3d(8, 8, 3, padding="same", groups=8)
        self.squeeze, self.excite = nn.Conv3d(8, 4, 1), nn.Conv3d(4, 8, 1)
        self.group, self.head = nn.GroupNorm(2, 8), nn.Linear(8, 3)

    def forward(self, video: Tensor) -> Tensor:
        hidden = F.relu(self.norm(self.stem(video)), inplace=True)
        found = self.deep(hidden)
        gate = self.excite(F.relu(self.squeeze(found.mean((2, 3, 4), keepdim=True)))).sigmoid()
        found = found * gate
        found = found * torch.sigmoid(found)
        found += hidden
        found = F.hardswish(self.group(found))
        return self.head(F.avg_pool3d(found, found.shape[2:]).flatten(1))  # type: ignore[no-any-return]


class Shifting(nn.Module):
    """As TSM: time is folded into the batch, and channels are shifted along time into a tensor of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.Linear(8, 3),
        )

    def _shifted(self, values: Tensor, num_frames: int) -> Tensor:
        values = values.view(-1, num_frames, *values.shape[1:])
        out = torch.zeros_like(values)
        out[:, :-1, :2] = values[:, 1:, :2]
        out[:, 1:, 2:4] = values[:, :-1, 2:4]
        out[:, :, 4:] = values[:, :, 4:]
        return out.flatten(0, 1)

    def forward(self, video: Tensor) -> Tensor:
        num_frames = video.shape[2]
        frames = video.transpose(1, 2).flatten(0, 1)
        hidden = self._shifted(torch.relu(self.first(frames)), num_frames)
        hidden = torch.tanh(self.second(hidden)).amax((2, 3))
        return self.head(hidden).view(-1, num_frames, 3).mean(1)  # type: ignore[no-any-return]


class Pathways(nn.Module):
    """As SlowFast: two rates that are joined; a layer that is called for each frame; a clamp and a masked fill."""

    def __init__(self) -> None:
        super().__init__()
        self.slow, self.fast = nn.Conv3d(3, 6, 3, padding=1), nn.Conv3d(3, 2, 3, padding=1)
        self.frame, self.weight = nn.Conv2d(8, 8, 3, stride=2), nn.Parameter(torch.randn(3, 8))

    def forward(self, video: Tensor) -> Tensor:
        slow = F.leaky_relu(self.slow(video[:, :, ::2]))
        fast = F.elu(self.fast(video) - 2.0)[:, :, ::2]
        joined = torch.cat([slow, F.pad(fast, (0, 0, 0, 0, 0, 0), value=1.0)], dim=1)
        frames = [self.frame(joined[:, :, frame]).clamp(-0.3, 5.0) for frame in range(joined.shape[2])]
        hidden = torch.stack(frames).sum(0).masked_fill(torch.eye(7).bool(), 0.5)
        return F.linear(hidden.flatten(2).mean(-1), self.weight) / 1.5 + 0.25 - hidden.std((1, 2, 3))[:, None]


def _swin() -> nn.Module:
    return SwinTransformer3d(
        patch_size=[2, 2, 2], embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=[2, 3, 3], num_classes=3
    )


def _mvit() -> nn.Module:
    blocks = [
        MSBlockConfig(1, 8, 8, kernel_q=[], kernel_kv=[3, 3, 3], stride_q=[], stride_kv=[1, 2, 2]),
        MSBlockConfig(2, 8, 16, kernel_q=[3, 3, 3], kernel_kv=[3, 3, 3], stride_q=[1, 2, 2], stride_kv=[1, 1, 1]),
    ]
    flags = {"residual_pool": True, "residual_with_cls_embed": False, "rel_pos_embed": True, "proj_after_attn": True}
    return MViT((16, 16), 4, blocks, num_classes=3, **flags)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "encoder": Encoder,
    "encoder, time first": lambda: Encoder(batch_first=False, activation="relu"),
    "encoder, norm first": lambda: Encoder(norm_first=True),
    "modern": Modern,
    "timm": TimmBlock,
    "attention pooling": AttentionPooling,
    "efficient": Efficient,
    "shifting": Shifting,
    "pathways": Pathways,
    "swin3d": _swin,
    "mvit": _mvit,
}


def build(name: str, *, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Build a network whose every constant is disturbed: fresh biases and shifts are 0 and would hide mistakes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = NETWORKS[name]()
        with torch.no_grad():
            for values in (*network.parameters(), *network.buffers()):
                if values.is_floating_point():
                    values += 0.1 * torch.rand_like(values)
    return network.eval().to(dtype)


def video(num_clips: int = 2, *, dtype: torch.dtype = torch.float64) -> Tensor:
    """Make clips of noise."""
    return torch.rand(num_clips, *CLIP, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
