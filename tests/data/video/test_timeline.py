import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vidact.core.errors import DataError
from vidact.data.checks.file_inspection import inspect_video
from vidact.data.datasets.clip_frames import frames_of, share_time, why_unusable
from vidact.data.datasets.index import Clip
from vidact.data.video.timeline import FrameRates, mean_rate, measured_times, timeline
from vidact.data.video.verdicts import Inspection, Verdict, VideoInfo

RATES = (8.0, 10.0, 12.5, 15.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 48.0, 50.0, 60000 / 1001, 60.0, 120.0)


def _even(count: int, fps: float | Fraction) -> tuple[float, ...]:
    return tuple(float(number / fps) for number in range(count))


@st.composite
def _irregular(draw: st.DrawFn) -> tuple[float, ...]:
    gaps = draw(st.lists(st.sampled_from([0.005, 0.02, 1 / 30, 0.05, 0.1, 1.0]), max_size=60))
    return tuple(np.cumsum([0.0, *gaps]).tolist())


def _naive(times: Sequence[float], fps: float, *, start: float = 0.0, end: float | None = None) -> list[int]:
    """Walk from instant to instant, and look at every frame each time for the last that is shown by then."""
    gaps = sorted(second - first for first, second in pairwise(times)) or [1 / fps]
    middle = len(gaps) // 2
    gap = gaps[middle] if len(gaps) % 2 else (gaps[middle - 1] + gaps[middle]) / 2
    until = times[-1] + gap if end is None else min(end, times[-1] + gap)
    early = 0.26 * min(gap, 1 / fps)
    found, step = [], 0
    while not found or (until - start) * fps - step > 0.13:
        instant = start + step / fps + early
        found.append(max(number for number, time in enumerate(times) if time <= instant))
        step += 1
    return found


@given(_irregular(), st.sampled_from(RATES))
def test_any_video_is_sampled_as_walking_through_it_would(times: tuple[float, ...], fps: float) -> None:
    found = timeline(times, fps=fps)
    if found != tuple(range(len(times))):  # kept as it is, of which other tests are
        assert list(found) == _naive(times, fps)
    assert list(found) == sorted(found)
    assert 0 <= found[0] <= found[-1] < len(times)


@given(_irregular(), st.sampled_from(RATES))
def test_each_instant_has_the_frame_that_is_shown_then(times: tuple[float, ...], fps: float) -> None:
    assume(abs(mean_rate(times) / fps - 1) > 0.05)
    gaps = [second - first for first, second in pairwise(times)]
    early = 0.26 * min(float(np.median(gaps)) if gaps else 1 / fps, 1 / fps)
    for step, number in enumerate(timeline(times, fps=fps)):
        instant = step / fps
        assert times[number] <= instant + early + 1e-9, "not before it is shown"
        assert number + 1 == len(times) or times[number + 1] > instant + early - 1e-9, "not after the next one is"


@given(st.sampled_from(RATES), st.sampled_from(RATES), st.integers(2, 200))
def test_an_even_video_keeps_its_duration(own: float, fps: float, count: int) -> None:
    found = timeline(_even(count, own), fps=fps)
    if abs(own / fps - 1) > 0.05:
        assert abs(len(found) / fps - count / own) < 1 / fps
    assert {second - first for first, second in pairwise(found)} <= {*range(math.ceil(own / fps - 1e-9) + 1)}


@given(st.sampled_from(RATES), st.integers(1, 400), st.data())
def test_a_video_that_has_the_rate_keeps_its_frames(fps: float, count: int, data: st.DataObject) -> None:
    """However time stamps were rounded, and where they jitter by a quarter of a frame."""
    digits = data.draw(st.integers(3, 9))
    jitter = (0.25 if count >= 20 and data.draw(st.booleans()) else 0.0) / fps  # of few frames nobody knows the rate
    noise = np.random.default_rng(count).uniform(-jitter, jitter, count)
    times = [round(number / fps + move, digits) for number, move in enumerate(noise)]
    assert timeline([time - times[0] for time in times], fps=fps) == tuple(range(count))


@pytest.mark.parametrize(
    ("own", "fps"), [(30000 / 1001, 30.0), (30.0, 30000 / 1001), (24000 / 1001, 24.0), (25.0, 25.0)]
)
def test_nominal_rates_are_the_rate_that_they_are_called(own: float, fps: float) -> None:
    assert timeline(_even(100_000, own), fps=fps) == tuple(range(100_000))


@pytest.mark.parametrize("shift", [0.0, 1e-9, -1e-9])
def test_exact_ratios_have_even_patterns(shift: float) -> None:
    def pattern(own: float, fps: float, count: int) -> list[int]:
        return list(timeline([0.0, *(time + shift for time in _even(count, own)[1:])], fps=fps))

    assert pattern(60.0, 30.0, 60) == list(range(0, 60, 2))
    assert pattern(60.0, 30.0, 5) == [0, 2, 4]
    assert pattern(120.0, 30.0, 120) == list(range(0, 120, 4))
    assert pattern(30.0, 60.0, 4) == [0, 0, 1, 1, 2, 2, 3, 3]
    repeated = pattern(25.0, 30.0, 100)
    assert len(repeated) == 120
    assert [repeated[start : start + 6] for start in range(0, 120, 6)] == [
        [five, five + 1, five + 1, five + 2, five + 3, five + 4] for five in range(0, 100, 5)
    ]
    skipped = pattern(30.0, 24.0, 100)
    assert len(skipped) == 80
    assert {tuple(number - quad[0] for number in quad) for quad in zip(*[iter(skipped)] * 4, strict=True)} == {
        (0, 1, 2, 4)
    }


@given(_irregular(), st.sampled_from([None, 10.0, 30.0, 60.0]), st.floats(0, 1), st.floats(0, 1))
def test_a_clip_lies_within_its_times(times: tuple[float, ...], fps: float | None, share: float, other: float) -> None:
    gap = float(np.median(np.diff(times))) if len(times) > 1 else 1 / (fps or 30)
    until = times[-1] + gap
    start, end = sorted([0.99 * share * until, 0.99 * other * until])
    assume(end - start > 1e-6)
    found = timeline(times, start=start, end=end, fps=fps)
    assert list(found) == sorted(found)
    shown = [number for number, time in enumerate(times) if time <= start + 0.26 * gap]
    assert found[0] <= shown[-1]
    assert all(times[number] <= end + 0.26 * gap for number in found[1:])
    if fps is None:
        inside = [number for number, time in enumerate(times) if start + 0.26 * gap < time < end - 0.26 * gap]
        assert set(inside) <= set(found)
        assert found == tuple(range(found[0], found[-1] + 1))


def test_a_clip_has_the_frames_between_its_times() -> None:
    times = _even(90, 30.0)
    assert timeline(times, start=1.0, end=2.0) == tuple(range(30, 60))
    assert timeline(times, start=1.0, end=2.0, fps=15.0) == tuple(range(30, 60, 2))
    assert timeline(times, start=0.67, end=1.33) == tuple(range(20, 40)), "rounded to two digits"
    assert timeline(times, end=0.5) == tuple(range(15))
    assert timeline(times, start=2.5) == tuple(range(75, 90))
    assert timeline(times, start=2.5, end=3.9) == tuple(range(75, 90)), "a table's ends are round numbers"
    assert timeline((0.0, 10.0), start=2.0, end=5.0) == (0,), "the one that is shown all the time"


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (3.0, None, "starts at 3 s, but its file ends at 3.00 s"),
        (1.0, 10.0, "ends at 10 s, but its file ends at 3.00 s"),
        (2.0, 2.0, "starts at 2 s and ends at 2 s; expected an end after the start"),
        (None, 0.0, "an end after the start"),
        (-1.0, 1.0, "expected seconds of 0 or more"),
        (math.nan, None, "expected seconds of 0 or more"),
        (None, math.inf, "expected seconds of 0 or more"),
    ],
)
def test_times_outside_of_the_file_are_refused(start: float | None, end: float | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        timeline(_even(90, 30.0), start=start, end=end)
    clip = Clip(Path("a.mp4"), "run", 0, "a", None, start, end)
    found = Inspection(Verdict.OK, info=VideoInfo(90, 90, 64, 48, 30.0))
    assert message in why_unusable(clip, found)


def test_a_clip_without_times_is_its_file() -> None:
    info = VideoInfo(5, 5, 64, 48, 30.0, times_seconds=(0.0, 0.1, 0.2, 0.9, 1.0))
    whole = Clip(Path("a.mp4"), "run", 0, "a", None)
    assert frames_of(whole, info) == (0, 1, 2, 3, 4)
    assert frames_of(Clip(Path("a.mp4"), "run", 0, "a", None, 0.15, 0.95), info) == (1, 2, 3)
    assert why_unusable(whole, Inspection(Verdict.OK, info=info)) == ""
    assert why_unusable(whole, Inspection(Verdict.EMPTY, "the file is empty")) == "the file is empty"


@given(st.lists(st.none() | st.floats(-10, 1000), min_size=1, max_size=40), st.sampled_from([0.0, 30.0]))
def test_stamps_that_are_none_are_not_used(stamps: list[float | None], claimed: float) -> None:
    """Whatever a container says: times are given back as they are, or frames are evenly spaced."""
    fps, times = measured_times(stamps, claimed_fps=claimed)
    ordered = None not in stamps and all(a < b for a, b in pairwise(stamps)) and len(stamps) > 1
    if not ordered:
        assert times == ()
        assert fps == claimed or (None in stamps and claimed / fps == pytest.approx(round(claimed / fps)))
        return
    info = VideoInfo(len(stamps), 0, 64, 48, fps, times_seconds=times)
    expected = [stamp - stamps[0] for stamp in stamps]
    assert list(info.shown_at) == pytest.approx(expected, abs=0.0006001)


def test_avi_with_empty_places_and_b_frames_has_the_rate_of_its_frames(tmp_path: Path) -> None:
    """FFmpeg copies H.264 of 30 frames a second so: an AVI of 60, every second place of which is empty."""
    assert measured_times([4 / 60, None, 8 / 60, 10 / 60, None, 14 / 60], claimed_fps=60.0) == (30.0, ())
    with av.open(str(tmp_path / "clip.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=60, options={"bf": "2"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(30):
            pixels = np.full((48, 64, 3), 8 * number, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = 2 * number, Fraction(1, 60)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    info = inspect_video(tmp_path / "clip.avi")
    assert (info.num_frames, info.fps, info.times_seconds) == (30, 30.0, ())


def test_even_times_are_a_number() -> None:
    """Also where the header is wrong, and stamps are rounded to the milliseconds of Matroska."""
    for fps in RATES:
        exact = list(_even(300, fps))
        assert measured_times(exact, claimed_fps=fps) == (fps, ())
        rate, times = measured_times([1.4 + time for time in exact], claimed_fps=1000.0)
        assert (rate, times) == (pytest.approx(fps), ())
        assert measured_times([round(time, 3) for time in exact], claimed_fps=fps)[1] == (), fps


def test_rates_that_were_learned_from_choose_how_a_video_is_sampled() -> None:
    thirty = FrameRates.of([30.0, 30.0], fps=None)
    assert [thirty.rate_for(rate) for rate in (25.0, 30.0, 60.0, 0.0)] == [30.0, 30.0, 30.0, None]
    assert FrameRates.of([24.0, 60.0], fps=15.0) == FrameRates(15.0, 15.0, 15.0)
    mixed = FrameRates.of([24.0, 60.0, 30.0], fps=None)
    assert mixed == FrameRates(24.0, 30.0, 60.0)
    assert [mixed.rate_for(rate) for rate in (10.0, 25.0, 60.0, 120.0)] == [30.0, None, None, 30.0]


def test_what_becomes_of_a_video_is_reported_in_one_line() -> None:
    thirty = FrameRates(30.0, 30.0, 30.0)
    assert thirty.note(30000 / 1001) == ""
    assert thirty.note(60.0) == "60 frames a second, sampled: the network was trained on clips of 30 frames a second"
    assert "too few, some are shown several times" in thirty.note(10.0)
    assert thirty.note(0.0) == "", "a single frame"
    mixed = FrameRates(24.0, 30.0, 60.0)
    assert (
        mixed.note(50.0)
        == "shown at its own 50 frames a second; the network was trained on clips of 24 to 60 frames a second"
    )
    assert mixed.advice() == [
        "training clips have 24 to 60 frames a second: motion looks slower in those with more; "
        "--data.fps 30 resamples all of them by time"
    ]
    assert thirty.advice() == FrameRates(29.97, 30.0, 30.0).advice() == []


def test_clips_of_one_file_may_have_no_moment_in_common() -> None:
    def clip(start: float | None, end: float | None) -> Clip:
        return Clip(Path("a.mp4"), "run", 0, "a", None, start, end)

    assert share_time(clip(None, None), clip(None, None))
    assert share_time(clip(1.0, 3.0), clip(2.0, None))
    assert not share_time(clip(1.0, 2.0), clip(2.0, 3.0))
