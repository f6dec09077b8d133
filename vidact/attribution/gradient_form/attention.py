"""Attention in gradient form: softmax, fused attention, and `multi_head_attention_forward` written out.

AttnLRP (Achtibat et al., ICML 2024): softmax by its own gradient, R_i = x_i (R_i' − s_i Σ R') (section 3.1 there), and
half of a product's relevance to each factor. CP-LRP (Ali et al., ICML 2022): attention weights are constants.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vidact.attribution.gradient_form.calls import Call, carries
from vidact.attribution.gradient_form.steps import Softmax, share
from vidact.attribution.gradient_form.walk import Walk

SOFTMAX = "the softmax of"


def softmax(walk: Walk, call: Call) -> Tensor:
    """Run softmax; under CP-LRP its result is a constant."""
    if walk.rules.weights_are_constant:
        constant: Tensor = call.run().detach()
        return constant
    module, layout = walk.module, walk.ledger.layout(call.args[0])

    def note(taken: Tensor) -> None:
        walk.ledger.add(SOFTMAX, module, walk.ledger.per_clip(taken, layout))

    function, (rest, own) = call.func, call.without("input", first=1)
    weights: Tensor = Softmax.apply(
        call.args[0], lambda values: function(values, *rest, **own), call.get("dim", 1, -1), note
    )
    return weights


def fused(walk: Walk, call: Call) -> Tensor:
    """Run `scaled_dot_product_attention`, with torch's own kernel, on queries, keys and values with their shares."""
    query, key, value = (call.get(name, number, None) for number, name in enumerate(("query", "key", "value")))
    rest = call.without("query", "key", "value", first=3)
    mask = call.get("attn_mask", 3, None)
    if walk.rules.weights_are_constant:
        query, key = query.detach(), key.detach()
        rest = (
            tuple(value.detach() if isinstance(value, Tensor) else value for value in rest[0]),
            {name: value.detach() if isinstance(value, Tensor) else value for name, value in rest[1].items()},
        )
    elif carries(mask):
        return _written_out(walk, call, (query, key, value), mask)
    of_weights, of_value = carries(query) or carries(key), carries(value)
    half = 0.5 if of_weights and of_value else 1.0
    quarter = half * (0.5 if carries(query) and carries(key) else 1.0)
    noted: dict[str, Any] = {}

    def leaving(name: str, tensor: Tensor) -> Tensor:
        """Note what softmax lets through: Σ q ∂f/∂q, as the product q k is linear in q."""
        if not carries(tensor):
            return tensor
        if not noted:
            noted[name] = layout = walk.ledger.layout(tensor)
            kept = tensor.detach()

            def note(gradient: Tensor) -> None:
                walk.ledger.add(SOFTMAX, module, walk.ledger.per_clip(-half * gradient * kept, layout))

            return share(tensor, quarter, note)
        return share(tensor, quarter)

    module = walk.module
    query, key = leaving("query", query), leaving("key", key)
    value = share(value, half) if of_value else value
    result: Tensor = call.func(query, key, value, *rest[0], **rest[1])
    if of_weights:
        kept = result.detach()
        walk.ledger.on_gradient(SOFTMAX, module, result, lambda gradient: half * gradient * kept, watched=kept)
    return result


def _written_out(walk: Walk, call: Call, given: tuple[Tensor, Tensor, Tensor], mask: Tensor) -> Tensor:
    """Attend step by step, for a mask that is computed from the video, as relative positions from queries are."""
    query, key, value = given
    if call.get("is_causal", 5, False) or call.get("enable_gqa", 7, False):
        walk.refuse(call, "leave out is_causal and enable_gqa where the mask is computed from the video")
    scale = call.get("scale", 6, None)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    logits = walk.dispatch(torch.matmul, query * scale, key.transpose(-1, -2))
    weights = walk.dispatch(torch.softmax, walk.dispatch(torch.add, logits, mask), dim=-1)
    attended: Tensor = walk.dispatch(torch.matmul, weights, value)
    return attended


def multi_head(walk: Walk, call: Call) -> tuple[Tensor, Tensor | None]:
    """Write `F.multi_head_attention_forward` out, so that each of its steps has its rule.

    Its arguments are those of torch; what the steps need is looked up by name.
    """
    given = call.bound(F.multi_head_attention_forward)
    query, key, value = given["query"], given["key"], given["value"]
    num_heads, weight, bias = given["num_heads"], given["in_proj_weight"], given["in_proj_bias"]
    is_batched = query.dim() == 3
    if not is_batched:
        query, key, value = (tensor.unsqueeze(1) for tensor in (query, key, value))
    if given.get("use_separate_proj_weight"):
        weights = [given["q_proj_weight"], given["k_proj_weight"], given["v_proj_weight"]]
    else:
        weights = list(weight.chunk(3))
    biases = [None] * 3 if bias is None else list(bias.chunk(3))
    # [L, B, E], as torch hands them over.
    query, key, value = (
        walk.dispatch(F.linear, tensor, own, shift)
        for tensor, own, shift in zip((query, key, value), weights, biases, strict=True)
    )
    length, num_clips, width = query.shape
    mask = _mask(given, query, num_heads=num_heads, source=key.shape[0])
    if given.get("bias_k") is not None:
        key = walk.dispatch(torch.cat, [key, given["bias_k"].expand(1, num_clips, -1)])
        value = walk.dispatch(torch.cat, [value, given["bias_v"].expand(1, num_clips, -1)])
        mask = None if mask is None else F.pad(mask, (0, 1))
    query, key, value = (
        tensor.reshape(tensor.shape[0], num_clips, num_heads, -1).permute(1, 2, 0, 3) for tensor in (query, key, value)
    )
    if given.get("add_zero_attn"):
        key, value = (F.pad(tensor, (0, 0, 0, 1)) for tensor in (key, value))
        mask = None if mask is None else F.pad(mask, (0, 1))
    found = None
    if given.get("need_weights", True):
        logits = walk.dispatch(torch.matmul, query * (width // num_heads) ** -0.5, key.transpose(-1, -2))
        found = walk.dispatch(torch.softmax, logits if mask is None else walk.dispatch(torch.add, logits, mask), dim=-1)
        attended = walk.dispatch(torch.matmul, found, value)
    else:
        attended = walk.dispatch(F.scaled_dot_product_attention, query, key, value, attn_mask=mask)
    attended = attended.permute(2, 0, 1, 3).reshape(length, num_clips, -1)
    result = walk.dispatch(F.linear, attended, given["out_proj_weight"], given["out_proj_bias"])
    if found is None:
        return result if is_batched else result.squeeze(1), None
    found = found.mean(1) if given.get("average_attn_weights", True) else found
    return (result, found) if is_batched else (result.squeeze(1), found.squeeze(0))


def _mask(given: dict[str, Any], query: Tensor, *, num_heads: int, source: int) -> Tensor | None:
    """Join the two masks of `multi_head_attention_forward` into one that is added, [B, heads or 1, L, S]."""
    num_clips, parts = query.shape[1], []
    own, padding = given.get("attn_mask"), given.get("key_padding_mask")
    if own is None and given.get("is_causal"):
        own = torch.ones(query.shape[0], source, dtype=torch.bool, device=query.device).triu(1)
    for mask, shape in (
        (own, (-1, num_heads, *own.shape[-2:]) if own is not None and own.dim() == 3 else (1, 1, -1, source)),
        (padding, (num_clips, 1, 1, source)),
    ):
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask, -torch.inf)
        parts.append(mask.reshape(shape))
    return sum(parts[1:], start=parts[0]).to(query.dtype) if parts else None
