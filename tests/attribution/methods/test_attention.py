"""Rollout and Chefer's method against both papers, written out on a transformer that gives its attention matrices."""

import math
from typing import Any

import pytest
import torch
from functional_networks import build, video
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vidact.attribution.methods.attention_weights import Watch
from vidact.attribution.registry import build_explainer
from vidact.attribution.targets import contrast
from vidact.core.errors import ExplanationError

METHODS = ("attention_rollout", "gradient_x_attention")
TARGET, REST = torch.tensor([0, 2]), torch.tensor([-1, -1])


class _Transformer(nn.Module):
    """Three blocks over 2 x 2 x 3 tokens, run in several ways that come to the same."""

    def __init__(self, how: str = "written out", *, pooling: str = "class", tokens: str = "time first") -> None:
        super().__init__()
        self.how, self.pooling, self.tokens = how, pooling, tokens
        size = (2, 4, 4)
        self.embed: nn.Module = nn.Conv2d(3, 8, 4, 4) if tokens == "frames" else nn.Conv3d(3, 8, size, size)
        self.extra = nn.Parameter(torch.randn(1, {"class": 1, "patches": 1, "registers": 3}.get(pooling, 0), 8))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True) for _ in range(3)
        )
        self.query, self.pool = nn.Parameter(torch.randn(1, 1, 8)), nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, video: Tensor, matrices: list[Tensor] | None = None) -> Tensor:
        if self.tokens == "frames":
            pictures = self.embed(video.transpose(1, 2).flatten(0, 1))
            pictures = pictures.view(len(video), -1, *pictures.shape[1:]).transpose(1, 2)
        else:
            pictures = self.embed(video)
        pictures = pictures.permute(0, 3, 4, 2, 1) if self.tokens == "time last" else pictures.permute(0, 2, 3, 4, 1)
        x = torch.cat([self.extra.expand(len(video), -1, -1), pictures.flatten(1, 3)], dim=1)
        for block in self.blocks:
            if self.how == "modules":
                x = block(x)
            elif self.how == "checkpoints":
                x = checkpoint(self._block, block, x, use_reentrant=False)
            else:
                x = self._block(block, x, matrices)
        if self.pooling == "query":
            x = self._attend(self.pool, self.query.expand(len(x), -1, -1), x, matrices)
        if self.pooling in ("mean", "patches"):
            return self.head(x[:, self.extra.shape[1] :].mean(dim=1))  # type: ignore[no-any-return]
        return self.head(x[:, 0])  # type: ignore[no-any-return]

    def _block(self, block: Any, x: Tensor, matrices: list[Tensor] | None = None) -> Tensor:
        y = block.norm1(x)
        x = x + self._attend(block.self_attn, y, y, matrices)
        return x + block.linear2(block.linear1(block.norm2(x)).relu())  # type: ignore[no-any-return]

    def _attend(
        self, layer: nn.MultiheadAttention, query: Tensor, key: Tensor, matrices: list[Tensor] | None
    ) -> Tensor:
        if self.how in ("modules", "weights asked"):
            return layer(query, key, key, need_weights=self.how == "weights asked")[0]  # type: ignore[no-any-return]
        weights, biases = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(tokens, weight, bias).unflatten(2, (2, 4)).transpose(1, 2)
            for tokens, weight, bias in zip((query, key, key), weights, biases, strict=True)
        )
        if self.how == "fused":
            attended = F.scaled_dot_product_attention(q, k, v)
        else:
            matrix = (q @ k.mT / math.sqrt(4)).softmax(dim=-1)
            if matrices is not None:
                matrices.append(matrix)
            attended = matrix @ v
        return layer.out_proj(attended.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _made(how: str = "written out", **settings: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _Transformer(how, **settings)
        for values in network.parameters():  # fresh biases are 0, fresh shifts too
            nn.init.normal_(values, std=0.7)
    return network.double().eval()


def _video(num_clips: int = 2) -> Tensor:
    return torch.rand(num_clips, 3, 4, 8, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _explain(method: str, network: nn.Module, clips: Tensor, **settings: Any) -> Tensor:
    against = settings.pop("against", REST[: len(clips)])
    with build_explainer(method, network, dtype=torch.float64, **settings) as explain:
        return explain(clips, TARGET[: len(clips)], against=against).relevance


def _by_the_paper(method: str, network: Any, clip: Tensor, target: Tensor) -> Tensor:
    """Abnar & Zuidema 2020, section 3; Chefer, Gur & Wolf 2021, eq. 5, 6, and for a pooling query 8 to 10."""
    matrices: list[Tensor] = []
    value = contrast(network(clip, matrices), target, REST[:1]).sum()
    gradients = torch.autograd.grad(value, matrices)
    layers = []
    for matrix, gradient in zip(matrices, gradients, strict=True):
        values = matrix if method == "attention_rollout" else (gradient * matrix).clamp(min=0)
        layers.append(values[0].mean(dim=0).detach())
    *blocks, pool = layers if network.pooling == "query" else [*layers, torch.empty(0)]
    eye = torch.eye(len(blocks[0]), dtype=torch.float64)
    found = eye
    for layer in blocks:
        if method == "attention_rollout":
            mixed = 0.5 * layer + 0.5 * eye
            found = mixed / mixed.sum(dim=1, keepdim=True) @ found
        else:
            found = found + layer @ found
    if network.pooling == "query" and method == "gradient_x_attention":
        own = found - eye
        found = own / own.sum(dim=1, keepdim=True) + eye
    elif method == "gradient_x_attention":
        found = found - eye
    num_extra = network.extra.shape[1]
    averaged = found[num_extra:].mean(dim=0) if network.pooling in ("mean", "patches") else found[0]
    row = ((pool @ found)[0] if network.pooling == "query" else averaged)[num_extra:]
    if network.tokens == "time last":
        return row.view(2, 3, 2).permute(2, 0, 1)
    return row.view(-1, 2, 3)


def _check(method: str, network: Any, reference: nn.Module) -> None:
    clips = _video()
    maps = torch.stack(
        [_by_the_paper(method, reference, clip[None], TARGET[n : n + 1]) for n, clip in enumerate(clips)]
    )
    expected = F.interpolate(maps[:, None], size=clips.shape[2:], mode="trilinear", align_corners=False) / 3
    torch.testing.assert_close(_explain(method, network, clips), expected.expand_as(clips), rtol=1e-9, atol=1e-12)
    assert maps.std() > 1e-4 * maps.abs().max()


@pytest.mark.parametrize("how", ["written out", "fused", "modules", "weights asked", "checkpoints"])
@pytest.mark.parametrize("pooling", ["class", "registers", "mean", "patches", "query"])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_paper_however_the_network_is_written(method: str, pooling: str, how: str) -> None:
    _check(method, _made(how, pooling=pooling), _made(pooling=pooling))


@pytest.mark.parametrize("tokens", ["time last", "frames"])
@pytest.mark.parametrize("method", METHODS)
def test_tokens_are_found_whatever_their_order(method: str, tokens: str) -> None:
    network = _made(tokens=tokens)
    _check(method, network, network)


@pytest.mark.parametrize("name", ["encoder", "encoder, time first", "timm", "modern"])
@pytest.mark.parametrize("method", METHODS)
def test_a_batch_gives_what_its_clips_give_singly(method: str, name: str) -> None:
    network, clips = build(name), video()
    together = _explain(method, network, clips)
    torch.testing.assert_close(together, _explain(method, network, clips, batch_size=1), rtol=1e-12, atol=0)
    assert together.amin() >= 0
    assert together.std() > 0


def test_rollout_ignores_the_target_and_gradients_do_not() -> None:
    network, clips, other = build("modern"), video(), torch.tensor([1, 1])
    assert torch.equal(*(_explain("attention_rollout", network, clips, against=who) for who in (None, other)))
    found = [_explain("gradient_x_attention", network, clips, against=who) for who in (None, other)]
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("mask", [None, torch.rand(5, 5).double(), torch.ones(5, 5).tril().bool(), "causal"])
def test_fused_attention_written_out_is_torchs(mask: Any) -> None:
    query, key, value = (torch.rand(1, heads, 5, 4).double() for heads in (4, 2, 2))
    settings: dict[str, Any] = {"is_causal": True} if isinstance(mask, str) else {"attn_mask": mask}

    class Asking(nn.Module):
        def forward(self, video: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(query, key, value, scale=0.7, enable_gqa=True, **settings).flatten(1)

    watch = Watch(network := Asking())
    torch.testing.assert_close(watch.run(torch.rand(1, 3, 4, 8, 12)), network(query))
    assert watch.found[0].shape == (5, 5)


class _Divided(nn.Module):
    """As TimeSformer: each place attends over time, then each frame over space."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv3d(3, 8, (1, 4, 4), (1, 4, 4)), nn.Linear(8, 3)
        self.time, self.space = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))

    def forward(self, video: Tensor) -> Tensor:
        x = self.embed(video).permute(0, 3, 4, 2, 1).flatten(0, 2)  # [B·h·w, t, 8]
        x = x + self.time(x, x, x)[0]
        x = x.unflatten(0, (len(video), -1)).transpose(1, 2).flatten(0, 1)  # [B·t, h·w, 8]
        x = x + self.space(x, x, x)[0]
        return self.head(x.unflatten(0, (len(video), -1)).mean(dim=(1, 2)))  # type: ignore[no-any-return]


class _Frames(nn.Module):
    """Embeds frame by frame, each by a call of its own: no convolution gives all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 3)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, video: Tensor) -> Tensor:
        x = torch.cat([self.embed(frame).flatten(2) for frame in video.unbind(dim=2)], dim=2).transpose(1, 2)
        return self.head(self.attention(x, x, x)[0].mean(dim=1))  # type: ignore[no-any-return]


class _Frozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = build("timm"), nn.Linear(3, 3).double()

    def forward(self, video: Tensor) -> Tensor:
        with torch.no_grad():
            found = self.inner(video)
        return self.head(found)  # type: ignore[no-any-return]


REFUSED = {
    "swin3d": r"features\.0\.0\.attn: .* got 18 queries and 18 keys behind a first convolution of 2 x 8 x 8 positions",
    "mvit": r"blocks\.0\.attn.* got 33 queries and 9 keys behind a first convolution of 2 x 4 x 4 positions; try",
    "attention pooling": "pool: .* got 1 queries and 4 keys behind a first convolution of 4 x 4 x 4 positions",
    "divided": "time: .* got 4 queries and 4 keys behind a first convolution of 4 x 4 x 4 positions; try lrp:cp_lrp",
    "frames": "attention: .* got 64 queries and 64 keys behind a first convolution of 1 x 4 x 4 positions",
    "frozen": r"^inner: no gradient goes .* let gradients through",
    "efficient": "no attention was found in Efficient; try lrp or grad_cam",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("method", METHODS)
def test_attention_that_is_not_of_all_tokens_to_all_is_refused(method: str, name: str) -> None:
    own = {"divided": _Divided, "frames": _Frames, "frozen": _Frozen}
    network = own[name]() if name in own else build(name)
    with (
        pytest.raises(ExplanationError, match=REFUSED[name]) as error,
        build_explainer(method, network, dtype=torch.float64) as explain,
    ):
        explain.prepare(video())
    assert "\n" not in str(error.value)


def test_a_later_layer_of_fewer_tokens_is_refused() -> None:
    network: Any = _made("modules")
    network.blocks[1].register_forward_hook(lambda module, inputs, output: output[:, :5])
    with pytest.raises(ExplanationError, match="got 5 queries and 5 keys behind a first attention of 13 tokens"):
        _explain("attention_rollout", network, _video())
