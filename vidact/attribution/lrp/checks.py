"""Check whether relevance rules can follow a network, and say what to change where they cannot.

Rules need one module per weight, addition, average and gate, each of a kind that has a rule.
"""

import contextlib

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.attribution.copies import (
    compute_out_of_place,
    differ,
    differentiable,
    keep_rng,
    private_copy,
    require_own,
    scores_of,
)
from vidact.attribution.graph.canonizers import build_canonizers
from vidact.attribution.graph.merge_check import find_wrong_merges
from vidact.attribution.graph.pairs import unmergeable_pairs
from vidact.attribution.graph.tracing import trace
from vidact.attribution.lrp.obstacles import (
    Obstacle,
    _in_place,
    _is_leaf,
    _judge_modules,
    _judge_operations,
    _not_merged,
    _output_changed,
)
from vidact.core.errors import ExplanationError


def find_obstacles(network: nn.Module, video: Float[Tensor, "B C T H W"]) -> tuple[Obstacle, ...]:
    """Find what relevance rules cannot explain in a network, by running a copy of it.

    Args:
        network: From [B, C, T, H, W] in [0, 1] to logits [B, K]; stays as it is.
        video: One clip is enough; noise will do.

    Returns:
        The obstacles, those that hide relevance first.

    Raises:
        ExplanationError: the network does not give logits [B, K], holds TorchScript, or cannot be copied or run.
    """
    refuse_scripts(network)
    with differentiable(video.device):
        video = video.detach().clone().float()
        copied = private_copy(network)
        require_own(copied, network, video)
        scores, obstacles = _look_at_frames(copied, video)
        wrong = find_wrong_merges(copied, video)
        for canonizer in build_canonizers(video):
            with contextlib.suppress(ExplanationError):  # a refused network stays as it is, and is judged below
                canonizer.apply(copied)
        if not wrong and differ(scores_of(copied, video), scores):
            obstacles.append(_output_changed(copied))
        with keep_rng(video.device):
            found = trace(copied, video, is_leaf=_is_leaf)
        wrong += [names for names in unmergeable_pairs(copied, video) if names[1] in found.reaching]
        obstacles += [_not_merged(*names) for names in wrong]
        obstacles += [*_judge_modules(copied, found), *_judge_operations(copied, found)]
    return tuple(sorted(obstacles, key=lambda obstacle: not obstacle.hides_relevance))


def require_explainable(network: nn.Module, video: Float[Tensor, "B C T H W"]) -> None:
    """Refuse a network whose relevance would be wrong.

    Raises:
        ExplanationError: names the first module, why, and what to do.
    """
    hiding = [obstacle for obstacle in find_obstacles(network, video) if obstacle.hides_relevance]
    if hiding:
        more = f" (and {len(hiding) - 1} more: python -m vidact inspect)" if len(hiding) > 1 else ""
        raise ExplanationError(
            f"layer-wise relevance would be wrong for this network: {hiding[0]}{more}; the composite cp_lrp follows "
            "functional code and attention, and methods that only need a gradient (gradient, integrated_gradients, "
            "…) explain any network as it is"
        )


def refuse_scripts(network: nn.Module) -> None:
    """Refuse a network with TorchScript in it.

    Raises:
        ExplanationError: names the module.
    """
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ExplanationError(
                f"{name or 'the network'} is TorchScript, which relevance rules cannot look into: build the network "
                "from its Python source, or explain it with a method that only needs a gradient (gradient, "
                "integrated_gradients, occlusion, …)"
            )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _look_at_frames(network: nn.Module, video: Tensor) -> tuple[Tensor, list[Obstacle]]:
    """Run the network unchanged; gives its scores, and frames that they do not depend on."""
    name, leaf = type(network).__name__, video.clone().requires_grad_()
    in_place = [_in_place(network, each) for each in compute_out_of_place(network, video)]
    with keep_rng(video.device):
        scores = network(leaf.clone())
    if not torch.isfinite(scores).all():
        raise ExplanationError(f"the scores of {name} are not finite; do its weights hold NaN or infinite values?")
    if not scores.requires_grad:
        why, remedy = "no gradient goes from its scores to any frame", "let gradients through: no no_grad, no detach"
        return scores, [*in_place, Obstacle("unseen_frames", name, why, remedy, hides_relevance=True)]
    try:
        (gradient,) = torch.autograd.grad((scores * scores.detach()).sum(), leaf)
    except RuntimeError as error:
        why, remedy = f"its gradient cannot be computed: {_first_line(error)}", "write into no module's output"
        return scores.detach(), [*in_place, Obstacle("functional", name, why, remedy, hides_relevance=True)]
    seen = gradient.abs().amax(dim=(0, 1, 3, 4)) > 0
    unseen = ", ".join(str(frame) for frame in torch.nonzero(~seen).flatten().tolist())
    why, remedy = f"its scores do not depend on frames {unseen} (from 0)", "they will have no relevance"
    obstacle = Obstacle("unseen_frames", name, why, remedy, hides_relevance=False)
    return scores.detach(), [*in_place, obstacle] if unseen else in_place
