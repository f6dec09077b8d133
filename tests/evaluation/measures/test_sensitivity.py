from collections.abc import Callable, Iterator

import captum.metrics
import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quantus_measures import quantus_score
from torch import Tensor, nn

from vidact.attribution.registry import build_explainer
from vidact.core.errors import VidactError
from vidact.evaluation.measures.sensitivity import infidelity, max_sensitivity, random_boxes, sparseness

SHAPE = (2, 4, 6, 5)  # C, T, H, W


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _video(clips: int = 3) -> Tensor:
    return torch.rand(clips, *SHAPE, generator=_generator(1))


WEIGHT = torch.randn(SHAPE, generator=_generator(2))


def _linear(video: Tensor) -> Tensor:
    return (video * WEIGHT.to(video)).sum(dim=(1, 2, 3, 4))


def _bent(video: Tensor) -> Tensor:
    return _linear(video).tanh() + _linear(video.square())


def _black(video: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda removed: torch.zeros_like(video)


def _noise(video: Tensor) -> Callable[[Tensor], Tensor]:
    values = torch.rand(video.shape, generator=_generator(5)).to(video)
    return lambda removed: values


def _relevance() -> Tensor:
    return torch.randn(3, *SHAPE, generator=_generator(3))


def _drawn_boxes(video: Tensor, count: int, seed: int = 0) -> list[Tensor]:
    generator = _generator(seed)
    return [random_boxes(video, generator=generator) for _ in range(count)]


@pytest.mark.parametrize(
    ("local", "scale", "fill"),
    [(False, False, _noise), (False, True, _black), (True, False, _black), (True, True, _noise)],
)
def test_infidelity_is_the_mean_squared_error_of_what_was_said_about_each_box(
    local: bool, scale: bool, fill: Callable[[Tensor], Callable[[Tensor], Tensor]]
) -> None:
    video, relevance = _video().double(), _relevance().double()
    found = infidelity(
        _bent,
        video,
        relevance=relevance,
        fill=fill(video),
        generator=_generator(),
        local=local,
        scale=scale,
        num_samples=7,
    )
    for clip in range(3):
        said, happened = [], []
        for boxes in _drawn_boxes(video, 7):
            other = video[clip].clone()
            other[:, boxes[clip]] = fill(video)(boxes)[clip][:, boxes[clip]]
            part = relevance[clip] * (video[clip] - other) if local else relevance[clip][:, boxes[clip]]
            said.append(float(part.sum()))
            happened.append(float(_bent(video[clip : clip + 1]) - _bent(other[None])))
        p, a = np.array(said), np.array(happened)
        beta = (p * a).sum() / (p * p).sum() if scale else 1.0
        assert float(found[clip]) == pytest.approx(float(((beta * p - a) ** 2).mean()), rel=1e-6)


@pytest.mark.parametrize(("local", "scale"), [(False, True), (True, False)])
def test_infidelity_is_captums(local: bool, scale: bool) -> None:
    video, relevance = _video().double(), _relevance().double()
    boxes = iter(_drawn_boxes(video, 9))

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        removed = next(boxes)[:, None].expand_as(inputs)
        without = torch.where(removed, _noise(video)(removed), inputs)
        return (inputs - without if local else removed.to(inputs)), without

    expected = captum.metrics.infidelity(
        _bent, perturb, video, relevance, n_perturb_samples=9, max_examples_per_batch=3, normalize=scale
    )
    settings = {"local": local, "scale": scale, "num_samples": 9}
    found = infidelity(_bent, video, relevance=relevance, fill=_noise(video), generator=_generator(), **settings)
    torch.testing.assert_close(found, expected)


def test_the_true_explanation_of_a_linear_score_is_faithful_and_no_other_is_as_much() -> None:
    video = _video().double()
    gradient, share = WEIGHT.double().expand_as(video), WEIGHT.double() * video
    zero = torch.zeros(3, dtype=torch.float64)

    def measured(relevance: Tensor, *, local: bool) -> Tensor:
        return infidelity(
            _linear, video, relevance=relevance, fill=_black(video), generator=_generator(), local=local, scale=False
        )

    torch.testing.assert_close(measured(gradient, local=True), zero)
    torch.testing.assert_close(measured(share, local=False), zero)
    for wrong in (share.roll(1, dims=2), share.flip(4), _relevance().double()):
        assert bool((measured(wrong, local=False) > 0.1).all())


@given(st.integers(0, 1000), st.floats(1e-6, 1e6))
@settings(max_examples=20, deadline=None)
def test_scaled_infidelity_knows_no_unit_and_is_never_more_than_that_of_an_empty_map(seed: int, factor: float) -> None:
    video = _video().double()
    relevance = torch.randn(video.shape, generator=_generator(seed), dtype=torch.float64)

    def measured(values: Tensor, *, scale: bool = True) -> Tensor:
        settings = {"fill": _black(video), "generator": _generator(), "num_samples": 6, "scale": scale}
        return infidelity(_bent, video, relevance=values, **settings)

    found = measured(relevance)
    torch.testing.assert_close(measured(relevance * factor), found)
    assert bool((found <= measured(relevance, scale=False) + 1e-12).all())
    empty = measured(torch.zeros_like(relevance))
    assert bool((found <= empty + 1e-12).all())
    torch.testing.assert_close(empty, measured(torch.zeros_like(relevance), scale=False))


def test_boxes_are_boxes_inside_of_the_clip_and_of_many_sizes() -> None:
    video = torch.zeros(500, 1, 5, 8, 1)
    boxes = random_boxes(video, generator=_generator())
    sizes = set()
    for box in boxes:
        places = box.nonzero()
        low, high = places.amin(dim=0), places.amax(dim=0) + 1
        assert int((high - low).prod()) == len(places) > 0
        sizes.add(tuple((high - low).tolist()))
    assert sizes == {(t, h, 1) for t in (1, 2, 3) for h in (1, 2, 3, 4)}
    share = boxes.double().mean(dim=0)
    assert share.min() > 0.02
    torch.testing.assert_close(share, share.flip(0, 1), atol=0.07, rtol=0)


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv3d(2, 4, 3), nn.ReLU()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 2 * 4 * 3, 3))

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.relu(self.first(video)))  # type: ignore[no-any-return]


def _network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _Net().eval()


@pytest.mark.parametrize("radius", [0.02, 0.3])
def test_max_sensitivity_is_the_farthest_that_the_explanation_moves(radius: float) -> None:
    video, target = _video(), torch.tensor([0, 1, 2])
    with build_explainer("gradient_x_input", _network()) as explain:

        def relevance(clips: Tensor) -> Tensor:
            return explain(clips, target).relevance

        before = torch.get_rng_state()
        found = max_sensitivity(relevance, video, generator=_generator(), radius=radius, num_samples=5)
        assert torch.equal(torch.get_rng_state(), before)
        generator, moved = _generator(), []
        for _ in range(5):
            noise = (2 * torch.rand(video.shape, generator=generator) - 1) * radius
            change = relevance((video + noise).clamp(0, 1)) - relevance(video)
            moved.append(change.flatten(1).norm(dim=1) / relevance(video).flatten(1).norm(dim=1))
    torch.testing.assert_close(found, torch.stack(moved).amax(dim=0))


def test_an_explanation_that_does_not_look_at_the_clip_does_not_move() -> None:
    video = _video()
    found = max_sensitivity(lambda clips: WEIGHT.expand_as(clips), video, generator=_generator())
    torch.testing.assert_close(found, torch.zeros(3))


@given(st.floats(1e-6, 1e6))
@settings(max_examples=10, deadline=None)
def test_max_sensitivity_knows_no_unit(factor: float) -> None:
    video = _video().double()
    found = [
        max_sensitivity(lambda clips, by=by: by * clips.square(), video, generator=_generator(), num_samples=3)
        for by in (1.0, factor)
    ]
    torch.testing.assert_close(found[0], found[1])


def test_max_sensitivity_grows_with_the_radius_and_with_more_samples() -> None:
    video = _video()

    def measured(radius: float, num_samples: int) -> Tensor:
        return max_sensitivity(torch.square, video, generator=_generator(), radius=radius, num_samples=num_samples)

    assert bool((measured(0.01, 5) < measured(0.1, 5)).all())
    assert bool((measured(0.1, 5) <= measured(0.1, 20)).all())
    torch.testing.assert_close(measured(0.0, 2), torch.zeros(3))


def test_noise_leads_to_no_pixel_that_is_none() -> None:
    def explain(clips: Tensor) -> Tensor:
        assert clips.min() >= 0
        assert clips.max() <= 1
        return clips

    max_sensitivity(explain, _video().round(), generator=_generator(), radius=0.5)


def test_where_the_explanation_is_empty_nothing_is_said_of_how_it_moves() -> None:
    def explain(clips: Tensor) -> Tensor:
        found = clips.clone()
        found[1] = 0
        return found

    found = max_sensitivity(explain, _video(), generator=_generator())
    assert found.isnan().tolist() == [False, True, False]
    assert max_sensitivity(explain, _video(0), generator=_generator()).shape == (0,)


def _naive_gini(values: Tensor) -> float:
    """Mean absolute difference of all pairs, in shares of twice the mean (Gini 1912)."""
    v = values.double().abs().flatten()
    return float((v[:, None] - v).abs().mean() / (2 * v.mean()))


def _chalasani(values: Tensor) -> float:
    """1 − 2 Σ_k v_(k) / ‖v‖₁ · (d − k + 1/2) / d, with k from 1, in rising order (Chalasani et al. 2020)."""
    v = values.double().abs().flatten().sort().values
    d = len(v)
    return 1 - 2 * sum(float(v[k - 1] / v.sum()) * (d - k + 0.5) / d for k in range(1, d + 1))


@given(st.integers(0, 10_000), st.floats(1e-30, 1e30), st.sampled_from([(4, 5, 3), (7,), (5, 6)]))
@settings(max_examples=30, deadline=None)
def test_sparseness_is_the_gini_index_of_chalasani_whatever_the_unit(
    seed: int, factor: float, shape: tuple[int, ...]
) -> None:
    relevance = torch.randn(3, *shape, generator=_generator(seed), dtype=torch.float64) ** 3
    found = sparseness(relevance * factor)
    for row in range(3):
        assert float(found[row]) == pytest.approx(_naive_gini(relevance[row]), abs=1e-9)
        assert float(found[row]) == pytest.approx(_chalasani(relevance[row]), abs=1e-9)


def test_sparseness_is_quantus() -> None:
    relevance = torch.randn(4, 3, 5, 6, generator=_generator()) ** 3
    torch.testing.assert_close(
        sparseness(relevance), quantus_score("Sparseness", relevance.abs()), atol=1e-5, rtol=1e-5
    )


def test_sparseness_goes_from_0_to_where_one_voxel_has_all() -> None:
    relevance = torch.zeros(3, 2, 5)
    relevance[0], relevance[1, 1, 2] = -0.3, -7
    found = sparseness(relevance)
    torch.testing.assert_close(found[:2], torch.tensor([0, 0.9], dtype=torch.float64))
    assert bool(found[2].isnan())
    assert sparseness(relevance[:0]).shape == (0,)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """What users have: no shape is checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def _infidelity(relevance: Tensor, num_samples: int = 2) -> Tensor:
    video = _video()
    settings = {"fill": _black(video), "generator": _generator(), "num_samples": num_samples}
    return infidelity(_linear, video, relevance=relevance, **settings)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: _infidelity(_relevance()[:, 0]), r"shape \[3, 4, 6, 5\], as the map, got \[3, 2, 4, 6, 5\]"),
        (lambda: _infidelity(_relevance() / 0), "not finite"),
        (lambda: _infidelity(_relevance(), 0), "at least 1 sample, got 0"),
        (lambda: max_sensitivity(torch.square, _video(), generator=_generator(), num_samples=0), "at least 1 sample"),
        (lambda: max_sensitivity(torch.square, _video(), generator=_generator(), radius=-0.1), "at least 0, got -0.1"),
        (lambda: max_sensitivity(torch.log, 0 * _video(), generator=_generator()), "not finite"),
        (lambda: sparseness(_relevance() / 0), "not finite"),
        (lambda: sparseness(_relevance().long()), "floating point"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(work: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(VidactError, match=message) as found:
        work()
    assert "\n" not in str(found.value)
