"""Watch any network's code for its attention weights: softmax, fused attention and `nn.MultiheadAttention`."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vidact.attribution.gradient_form.explainer import without_checkpoints
from vidact.attribution.gradient_form.functions import name_of


@dataclass(frozen=True)
class Attending:
    """One layer's attention to one clip.

    Attributes:
        module: Name of the module that runs it.
        shape: How many queries and keys.
        weights: Each query's sum to 1 over the keys [..., N_q, N_k]; the tensor that the network goes on with, or what
            `Watch.keep` makes of it.
        mark: A number for each query that depends on this token alone, if it is the first layer.
    """

    module: str
    shape: tuple[int, int]
    weights: Tensor
    mark: Float[Tensor, " N"] | None


class Watch(TorchFunctionMode):
    """Collects the attention weights of a network while it runs on one clip, so that all other dimensions are heads.

    Fused attention is written out, so that its weights exist and have gradients.

    Args:
        network: Runs on one clip at a time.
        keep: What is to be kept of the weights of a layer; None for all.
    """

    def __init__(self, network: nn.Module, keep: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self._network, self._keep, self._modules = network, keep, [type(network).__name__]
        self.found: list[Attending] = []
        self.pictures: list[Tensor] = []  # what convolutions give before the first attention
        self._rules: dict[str, Callable[..., Any]] = {
            "softmax": self._softmax,
            "scaled_dot_product_attention": self._fused,
            "multi_head_attention_forward": self._multi_head,
            **dict.fromkeys(("conv2d", "conv3d"), self._convolve),
        }

    def run(self, video: Float[Tensor, "1 C T H W"]) -> Float[Tensor, "1 K"]:
        """Run the network in this mode; gives its scores."""
        with self._names(), without_checkpoints(), self:
            scores: Tensor = self._network(video)
        return scores

    @contextlib.contextmanager
    def _names(self) -> Iterator[None]:
        def enter(name: str) -> Callable[..., None]:
            return lambda *_: self._modules.append(name)

        def leave(*_: Any) -> None:
            self._modules.pop()

        with contextlib.ExitStack() as stack:
            for name, module in self._network.named_modules():
                if name:
                    stack.callback(module.register_forward_pre_hook(enter(name)).remove)
                    stack.callback(module.register_forward_hook(leave).remove)
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function by its rule; torch calls this instead of each of its functions."""
        rule = self._rules.get(name_of(func))
        return func(*args, **(kwargs or {})) if rule is None else rule(func, *args, **(kwargs or {}))

    def _note(self, weights: Tensor, mark: Callable[[], Tensor]) -> None:
        """Note a layer's attention weights."""
        num_queries, num_keys = weights.shape[-2:]
        own = mark() if not self.found and num_queries == num_keys and weights.requires_grad else None
        kept = weights if self._keep is None else self._keep(weights)
        self.found.append(Attending(self._modules[-1], (num_queries, num_keys), kept, own))

    def _convolve(self, func: Any, *args: Any, **kwargs: Any) -> Tensor:
        picture: Tensor = func(*args, **kwargs)
        if not self.found:
            self.pictures.append(picture)
        return picture

    def _softmax(self, func: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Run a softmax, which gives attention weights where it is over the last of three dimensions or more."""
        weights: Tensor = func(*args, **kwargs)
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if weights.ndim > 2 and dim is not None and dim % weights.ndim == weights.ndim - 1:
            logits = args[0] if args else kwargs["input"]
            self._note(weights, lambda: _sum_to_last(logits.diagonal(dim1=-2, dim2=-1)))
        return weights

    def _fused(
        self,
        func: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Write `F.scaled_dot_product_attention` out, as torch's documentation does."""
        if enable_gqa:
            key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], dim=-3) for part in (key, value))
        logits = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            logits = logits.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            logits = logits + attn_mask
        weights = F.dropout(logits.softmax(dim=-1), dropout_p)
        self._note(weights, lambda: _sum_to_last((query * uneven(query)).sum(dim=-1)))
        return weights @ value

    def _multi_head(self, func: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Run `F.multi_head_attention_forward` so that it gives its weights."""
        given = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
        given.apply_defaults()
        wants, averages = given.arguments["need_weights"], given.arguments["average_attn_weights"]
        given.arguments.update(need_weights=True, average_attn_weights=False)
        result, weights = func(*given.args, **given.kwargs)
        used = weights if weights._base is None else weights._base  # what it gives is a view of what it goes on with
        query = given.arguments["query"]  # [N, 1, E] or [N, E]
        self._note(used, lambda: (query * uneven(query)).flatten(1).sum(dim=1))
        if not wants:
            return result, None
        return result, weights.mean(dim=-3) if averages else weights


def _sum_to_last(values: Tensor) -> Float[Tensor, " N"]:
    return values.reshape(-1, values.shape[-1]).sum(dim=0)


def uneven(values: Tensor) -> Float[Tensor, " E"]:
    """Give each channel a weight of its own: their plain sum is constant behind a fresh LayerNorm."""
    return torch.linspace(1, 2, values.shape[-1], dtype=values.dtype, device=values.device)
