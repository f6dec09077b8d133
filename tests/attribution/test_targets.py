import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidact.attribution.targets import Goal, class_weights, contrast, select_target, set_goal
from vidact.core.errors import ExplanationError

NAMES = ("run", "jump", "hit-vs-miss", "wave")
TARGET, AGAINST = torch.tensor([0, 3, 1]), torch.tensor([2, -1, 0])


def _scores(num_clips: int = 3, num_classes: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(num_clips, num_classes, generator=generator, dtype=torch.float64)


def _naive(scores: Tensor, target: int, against: int | None) -> float:
    f = scores.tolist()
    if against is None:
        return f[target]
    if against >= 0:
        return f[target] - f[against]
    p = float(scores.softmax(dim=0)[target])
    return float(torch.log(torch.tensor(p / (1 - p), dtype=torch.float64)))


@given(st.integers(0, 1000), st.sampled_from([None, -1, 1, 2]))
@settings(max_examples=40, deadline=None)
def test_what_is_explained_is_the_logit_the_difference_or_the_log_odds(seed: int, against: int | None) -> None:
    scores = _scores(seed=seed)
    number = None if against is None else torch.full((3,), against)
    found = contrast(scores, torch.zeros(3, dtype=torch.long), number)
    for row in range(3):
        assert float(found[row]) == pytest.approx(_naive(scores[row], 0, against), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("against", [None, AGAINST, torch.full((3,), -1)])
def test_the_weights_are_the_gradient_of_what_is_explained(against: Tensor | None) -> None:
    scores = _scores().requires_grad_()
    (gradient,) = torch.autograd.grad(contrast(scores, TARGET, against).sum(), scores)
    torch.testing.assert_close(class_weights(scores.detach(), TARGET, against), gradient)


def test_the_weighted_logits_exceed_the_log_odds_by_the_entropy_of_the_rest() -> None:
    scores, rest = _scores(), torch.full((3,), -1)
    weights = class_weights(scores, TARGET, rest)
    shares = -weights.clamp(max=0)
    entropy = -(shares * shares.clamp(min=1e-300).log()).sum(dim=1)
    torch.testing.assert_close((weights * scores).sum(dim=1), contrast(scores, TARGET, rest) + entropy)


def test_scores_far_apart_give_finite_weights() -> None:
    scores = torch.tensor([[1e4, -1e4, 0.0, 3.0]])
    for target in range(4):
        weights = class_weights(scores, torch.tensor([target]), torch.tensor([-1]))
        assert torch.isfinite(weights).all()
        assert float(weights.sum()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("target", "against", "message"),
    [
        ([4], None, "targets are class numbers from 0 to 3, got \\[4\\]"),
        ([-1], None, "targets are class numbers from 0 to 3"),
        ([0], [4], "classes to explain against are class numbers from 0 to 3"),
        ([0], [-2], "classes to explain against"),
        ([2], [2], "against itself"),
    ],
)
def test_what_is_no_class_is_named(target: list[int], against: list[int] | None, message: str) -> None:
    goal = Goal(torch.tensor(target), None if against is None else torch.tensor(against))
    with pytest.raises(ExplanationError, match=message):
        goal.weights(_scores(1))


def test_one_class_has_no_rest() -> None:
    with pytest.raises(ExplanationError, match="no rest"):
        set_goal(torch.tensor([0]), "rest").value(_scores(1, 1))


def test_rest_is_the_only_word_for_against() -> None:
    assert set_goal(TARGET, "rest").against.tolist() == [-1, -1, -1]  # type: ignore[union-attr]
    with pytest.raises(ExplanationError, match="'rest' or None, got 'others'"):
        set_goal(TARGET, "others")


LABEL = torch.tensor([1, 1, 2])
SCORES = torch.tensor([[9.0, 1, 2, 3], [0, 9, 2, 3], [0, 1, 2, 9]])


@pytest.mark.parametrize(
    ("spec", "target", "against"),
    [
        ("predicted", [0, 1, 3], None),
        ("true", [1, 1, 2], None),
        ("wave", [3, 3, 3], None),
        ("hit-vs-miss", [2, 2, 2], None),
        ("run-vs-jump", [0, 0, 0], [1, 1, 1]),
        ("hit-vs-miss-vs-run", [2, 2, 2], [0, 0, 0]),
        ("run-vs-hit-vs-miss", [0, 0, 0], [2, 2, 2]),
        ("predicted-vs-rest", [0, 1, 3], [-1, -1, -1]),
        ("true-vs-run", [1, 1, 2], [0, 0, 0]),
    ],
)
def test_a_target_is_read(spec: str, target: list[int], against: list[int] | None) -> None:
    found, other = select_target(spec, SCORES, label=LABEL, class_names=NAMES)
    assert found.tolist() == target
    assert (other if other is None else other.tolist()) == against


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("jmup", "target 'jmup' is no class; nearest: jump "),
        ("run-vs-wvae", "target 'wvae' is no class; nearest: wave "),
        ("rest", "target 'rest' is no class"),
        ("run-vs-run", "against itself"),
        ("", "target '' is no class; nearest: run, jump, "),
    ],
)
def test_a_target_that_cannot_be_read_is_named_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(ExplanationError, match=message) as caught:
        select_target(spec, SCORES, label=LABEL, class_names=NAMES)
    assert "\n" not in str(caught.value)


def test_the_true_class_must_be_known() -> None:
    with pytest.raises(ExplanationError, match="true class is not known"):
        select_target("true", SCORES, label=None, class_names=NAMES)
