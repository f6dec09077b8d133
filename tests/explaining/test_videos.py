import gc
import tracemalloc
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_videos import MadeVideo

from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.core.clips import as_float
from vidact.core.errors import ConfigError, EnvironmentProblem, ExplanationError
from vidact.data.loading.streaming import WindowSettings, pick_frames
from vidact.data.video.reading import to_network_size
from vidact.data.video.timeline import FrameRates
from vidact.explaining.settings import ExplainSettings
from vidact.explaining.stitching import Subject
from vidact.explaining.videos import VideoExplanation, explain_video
from vidact.models.stacked import StackedFramesCNN

CLASSES = ("left", "right", "up-vs-down")
WINDOW = WindowSettings(num_frames=4, stride=2, size=(12, 16), gray=True)


def _network() -> StackedFramesCNN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StackedFramesCNN(3, num_frames=4, size=(12, 16), head="pooled").eval()


def _explain(folder: Path, video: MadeVideo, *, overlap: float = 0.5, **settings: object) -> VideoExplanation:
    own = ExplainSettings(**settings)  # type: ignore[arg-type]
    with own.build_explainer(_network()) as explain:
        subject = Subject(video, replace(WINDOW, overlap=overlap), torch.device("cpu"))
        return explain_video(explain, subject, class_names=CLASSES, settings=own, scratch=folder)


def _pixels(video: MadeVideo, numbers: list[int]) -> torch.Tensor:
    frames = {frame.number: frame.picture for frame in pick_frames(video, sorted(set(numbers)))}
    pictures = [to_network_size(torch.from_numpy(frames[number]), (12, 16), gray=True) for number in numbers]
    return as_float(torch.stack(pictures, dim=1)[None])


@pytest.mark.parametrize("num_frames", [1, 5, 7, 8, 31])
def test_relevance_is_the_mean_over_the_windows_that_hold_a_frame(tmp_path: Path, num_frames: int) -> None:
    """Written out: each window on its own, from its frame numbers, with a hop of two sampled frames."""
    video = MadeVideo(num_frames)
    found = _explain(tmp_path, video, target="right")
    last = num_frames - 1
    if num_frames < 7:
        windows = [[min(2 * step, last) for step in range(4)]]
    else:
        sampled = list(range(0, num_frames, 2))
        starts = sorted({*range(0, len(sampled) - 4, 2), len(sampled) - 4})
        windows = [[sampled[start + step] for step in range(4)] for start in starts]
    maps: dict[int, list[np.ndarray]] = defaultdict(list)
    scores = []
    with LayerwiseRelevance(_network()) as explain:
        for numbers in windows:
            explanation = explain(_pixels(video, numbers), torch.tensor([1]))
            scores.append(float(explanation.score))
            own: dict[int, np.ndarray] = {}
            for number, frame in zip(numbers, explanation.relevance[0].sum(dim=0).numpy(), strict=True):
                own[number] = own.get(number, 0) + frame
            for number, frame in own.items():
                maps[number].append(frame)
    assert found.frame_numbers.tolist() == sorted(maps)
    expected = np.stack([np.mean(maps[number], axis=0) for number in sorted(maps)])
    assert np.abs(found.relevance.read() - expected).max() < 1e-5 * np.abs(expected).max()
    assert found.window_scores == pytest.approx(scores, rel=1e-5)
    assert found.score == pytest.approx(np.mean(scores), rel=1e-5)
    assert found.window_conservation == pytest.approx(1, abs=1e-3)
    assert found.parts is not None
    assert sum(found.parts.values()) == pytest.approx(found.score, rel=1e-4)
    assert found.where.startswith("100.0 % on voxels")
    assert found.warning == ""
    assert found.times_seconds == pytest.approx(found.frame_numbers / 25)


def test_without_overlap_the_relevance_of_all_frames_adds_up_to_the_scores(tmp_path: Path) -> None:
    found = _explain(tmp_path, MadeVideo(32), overlap=0.0)
    assert len(found.window_scores) == 4
    assert found.positive.sum() + found.negative.sum() == pytest.approx(found.window_scores.sum(), rel=1e-3)


def test_the_sums_and_the_largest_value_are_those_of_the_maps(tmp_path: Path) -> None:
    found = _explain(tmp_path, MadeVideo(21))
    maps = found.relevance.read().astype(np.float64)
    assert found.positive == pytest.approx(maps.clip(min=0).sum(axis=(1, 2)), rel=1e-6)
    assert found.negative == pytest.approx(maps.clip(max=0).sum(axis=(1, 2)), rel=1e-6)
    assert found.largest == pytest.approx(np.abs(maps).max())
    assert np.array_equal(np.stack(list(found.relevance)), found.relevance.read())


def test_a_clip_does_not_depend_on_what_else_is_in_the_batch(tmp_path: Path) -> None:
    alone, together = (_explain(tmp_path, MadeVideo(33), batch_size=size) for size in (1, 8))
    assert alone.window_scores == pytest.approx(together.window_scores, rel=1e-5)
    first = _explain(tmp_path, MadeVideo(33), batch_size=1).relevance.read()
    second = _explain(tmp_path, MadeVideo(33), batch_size=8).relevance.read()
    assert np.abs(first - second).max() < 1e-5 * np.abs(first).max()


def test_the_prediction_is_the_class_with_the_highest_mean_probability(tmp_path: Path) -> None:
    found = _explain(tmp_path, MadeVideo(31))
    assert found.target == found.probabilities.argmax()
    assert found.probabilities.sum() == pytest.approx(1)
    assert found.top_classes(1)[0][0] == CLASSES[found.target] == found.target_name


def test_a_class_is_explained_against_another(tmp_path: Path) -> None:
    one, other = (_explain(tmp_path, MadeVideo(7), target=name) for name in ("left", "right"))
    both = _explain(tmp_path, MadeVideo(7), target="left-vs-right")
    assert both.score == pytest.approx(one.score - other.score, rel=1e-4)
    assert both.target_name == "left-vs-right"
    assert _explain(tmp_path, MadeVideo(7), target="up-vs-down").against is None, "a class's own name"
    assert _explain(tmp_path, MadeVideo(7), target="left-vs-rest").target_name == "left-vs-rest"


@pytest.mark.slow
def test_memory_depends_on_the_window_and_not_on_the_length(tmp_path: Path) -> None:
    def peak(num_frames: int) -> int:
        gc.collect()
        tracemalloc.start()
        _explain(tmp_path, MadeVideo(num_frames, size=(120, 160)))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # what is imported or kept once
    short = peak(40)
    long = min(peak(400), peak(400))  # what else happens in this process, in its threads or by chance, happens once
    maps_of_the_long_one = 200 * 12 * 16 * 4
    assert long - short < maps_of_the_long_one / 2, "and a frame of it alone has 57,600 bytes"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"method": "lpr"}, "method 'lpr' is unknown; nearest: lrp"),
        ({"composite": "epsilon_pls"}, "composite 'epsilon_pls' is unknown"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExplainSettings(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", [1.0, -0.1, float("nan")])
def test_an_overlap_that_is_no_share_of_a_window_is_refused(overlap: float) -> None:
    with pytest.raises(ConfigError, match=r"in \[0, 1\), got"):
        replace(WINDOW, overlap=overlap)


def test_an_unknown_class_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ExplanationError, match="target 'lefft' is no class; nearest: left"):
        ExplainSettings(target="lefft").check_target(CLASSES)


def test_a_scratch_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        _explain(tmp_path / "none", MadeVideo(8))


def test_a_frame_that_is_seen_several_times_has_the_sum_of_what_each_got(tmp_path: Path) -> None:
    """A video of 25 frames a second, for a network that learned from 50: written out window by window."""
    video = MadeVideo(9)
    window = replace(WINDOW, stride=1, rates=FrameRates(50.0, 50.0, 50.0))
    own = ExplainSettings(target="right")
    with own.build_explainer(_network()) as explain:
        subject = Subject(video, window, torch.device("cpu"))
        found = explain_video(explain, subject, class_names=CLASSES, settings=own, scratch=tmp_path)
    seen = [number for number in range(9) for _ in range(2)]
    starts = sorted({*range(0, len(seen) - 4, 2), len(seen) - 4})
    maps: dict[int, list[np.ndarray]] = defaultdict(list)
    with LayerwiseRelevance(_network()) as explain:
        for start in starts:
            explanation = explain(_pixels(video, seen[start : start + 4]), torch.tensor([1]))
            for place in range(4):
                maps[start + place].append(explanation.relevance[0].sum(dim=0)[place].numpy())
    expected = [sum(np.mean(maps[place], axis=0) for place in (2 * number, 2 * number + 1)) for number in range(9)]
    relevance = found.relevance.read()
    np.testing.assert_allclose(relevance, np.stack(expected), atol=1e-6 * np.abs(relevance).max())
    assert found.frame_numbers.tolist() == list(range(9))
    assert found.times_seconds == pytest.approx([number / 25 for number in range(9)])
    assert found.positive + found.negative == pytest.approx(
        relevance.sum(axis=(1, 2), dtype=np.float64), rel=1e-4, abs=1e-6
    )
    assert "too few" in found.note
