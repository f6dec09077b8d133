"""Written videos have the source's frames and times, and show what is relevant where it is."""

import errno
import functools
import os
import resource
import shutil
import subprocess
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from jaxtyping import Float, UInt8
from matplotlib.colors import to_rgb

from vidact.core.errors import EnvironmentProblem, VidactError
from vidact.drawing.grid import HOTSPOT_COLOUR, HOTSPOT_OPACITY
from vidact.drawing.video.file import DisplayFrame, write_overlay_video
from vidact.drawing.video.overlay import Composer, SampledRelevance

MAGENTA = 255 * np.array(to_rgb(HOTSPOT_COLOUR))


@dataclass(frozen=True)
class Decoded:
    pictures: list[UInt8[np.ndarray, "H W 3"]]
    times: list[Fraction]
    duration: Fraction
    codec: str
    pix_fmt: str


def decode(path: Path) -> Decoded:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.duration is not None
        return Decoded(
            pictures=[frame.to_ndarray(format="rgb24") for frame in frames],
            times=[frame.pts * frame.time_base for frame in frames],
            duration=stream.duration * stream.time_base,
            codec=stream.codec_context.name,
            pix_fmt=stream.codec_context.pix_fmt,
        )


def smooth_video(count: int, height: int, width: int) -> UInt8[np.ndarray, "T H W 3"]:
    """Slow gradients that move: what compression keeps."""
    t, y, x, c = np.ogrid[:count, :height, :width, :3]
    waves = np.sin(y / height * 5 + t / 7) + np.cos(x / width * 4 + c)
    return np.asarray(110 + 50 * waves).astype(np.uint8)


def relevance_of(times: list[float], maps: Float[np.ndarray, "S h w"] | None = None) -> SampledRelevance:
    generator = np.random.default_rng(0)
    if maps is None:
        maps = generator.normal(size=(len(times), 10, 12))
    positive, negative = maps.clip(min=0).sum(axis=(1, 2)), maps.clip(max=0).sum(axis=(1, 2))
    return SampledRelevance(
        maps,
        positive,
        negative,
        np.array(times),
        unit="units of the logit",
        threshold=0.3,
        largest=float(np.abs(maps).max()),
    )


def constant(count: int) -> list[Fraction]:
    return [Fraction(1001 * number, 30_000) for number in range(count)]


def variable(count: int) -> list[Fraction]:
    gaps = np.random.default_rng(0).integers(1, 900, count)
    return [Fraction(int(ticks), 1000) for ticks in 250 + np.cumsum(gaps)]


@pytest.mark.parametrize(
    ("times", "time_base", "as_float"),
    [
        (constant(12), Fraction(1001, 30_000), True),
        (constant(12), Fraction(1, 90_000), False),
        (variable(12), Fraction(1, 1000), True),
        (variable(12), Fraction(1, 1000), False),
    ],
)
def test_every_frame_keeps_its_own_time(
    tmp_path: Path, times: list[Fraction], time_base: Fraction, as_float: bool
) -> None:
    video = smooth_video(12, 240, 320)
    given = [float(time) for time in times] if as_float else times
    frames = [DisplayFrame(picture, time, Fraction(1, 5)) for picture, time in zip(video, given, strict=True)]
    path = tmp_path / "sub" / "overlay.mp4"
    count = write_overlay_video(path, iter(frames), relevance=relevance_of([0.3]), title="wave", time_base=time_base)
    decoded = decode(path)
    assert count == len(decoded.pictures) == 12
    assert decoded.times == [round(time / time_base) * time_base for time in times]
    assert (decoded.codec, decoded.pix_fmt) == ("h264", "yuv420p")
    last = round(Fraction(1, 5) / time_base) * time_base
    assert decoded.duration == decoded.times[-1] - decoded.times[0] + last
    assert [file.name for file in path.parent.iterdir()] == ["overlay.mp4"]


def test_a_lone_frame_and_one_without_a_duration_last_as_long_as_they_should(tmp_path: Path) -> None:
    video, relevance = smooth_video(3, 240, 320), relevance_of([0.0])
    alone, three = tmp_path / "1.mp4", tmp_path / "3.mp4"
    write_overlay_video(alone, [DisplayFrame(video[0], 0.0)], relevance=relevance, title="")
    frames = [DisplayFrame(picture, time) for picture, time in zip(video, (0.0, 0.1, 0.4), strict=True)]
    write_overlay_video(three, frames, relevance=relevance, title="")
    assert decode(alone).duration == Fraction(1, 25)
    assert decode(three).duration == Fraction(7, 10)


@pytest.mark.parametrize(
    ("height", "width", "count", "samples", "layout"),
    [
        (241, 333, 3, 2, "beside"),
        (640, 360, 3, 3, "over"),
        (17, 13, 4, 1, "beside"),
        (64, 64, 3, 3, "over"),
        (300, 800, 3, 1, "beside"),
        (1080, 1920, 2, 2, "beside"),
    ],
)
def test_any_size_is_written_even_and_at_its_own_resolution(
    tmp_path: Path, height: int, width: int, count: int, samples: int, layout: str
) -> None:
    video, path = smooth_video(count, height, width), tmp_path / "a.mp4"
    frames = [DisplayFrame(picture, number / 10) for number, picture in enumerate(video)]
    relevance = relevance_of([0.05 * n for n in range(samples)])
    write_overlay_video(path, frames, relevance=relevance, title="a" * 99, layout=layout, max_width=4096)
    decoded = decode(path)
    rows, columns = decoded.pictures[0].shape[:2]
    scale = 1 if height >= 240 else -(-240 // height)
    assert len(decoded.pictures) == count
    assert rows % 16 == columns % 16 == 0
    assert rows >= scale * height + 60
    assert columns >= max(320, scale * width * (1 if layout == "over" or width > 2 * height else 2))
    assert columns <= max(400, 2.1 * scale * width + 16)


def hot_relevance() -> SampledRelevance:
    maps = np.full((2, 10, 16), 0.1)
    maps[0, 3:7, 5:9] = 1.0
    maps[0, 0, 0] = -3.0
    return SampledRelevance(
        maps,
        np.array([5.0, 3.0]),
        np.array([-3.0, 0.0]),
        np.array([0.45, 1.45]),
        unit="units of the logit",
        threshold=0.3,
        largest=3.0,
    )


def composer_of(relevance: SampledRelevance, *, layout: str = "over", end: float = 2.0) -> Composer:
    span = (0.0, end)
    return Composer(
        (240, 320), relevance=relevance, title="wave", layout=layout, span_seconds=span, resize=lambda frame, _: frame
    )


@pytest.fixture(scope="module")
def hot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the videos with hotspots lie, which are written once for all tests."""
    return tmp_path_factory.mktemp("hot")


@functools.cache
def hotspot_video(folder: Path, layout: str) -> tuple[UInt8[np.ndarray, "T H W 3"], Decoded]:
    """Twenty frames of 240 x 320; voxel rows 3 to 6 and columns 5 to 8 of 10 x 16 are hot in the first ten."""
    video = smooth_video(20, 240, 320)
    relevance = hot_relevance()
    frames = (DisplayFrame(picture, number / 10) for number, picture in enumerate(video))
    path = folder / f"{layout}.mp4"
    write_overlay_video(path, frames, relevance=relevance, title="wave", layout=layout, end_seconds=2.0)
    return video, decode(path)


def difference(a: UInt8[np.ndarray, "H W 3"], b: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W"]:
    return np.abs(a.astype(float) - b).max(axis=-1)


def test_the_original_is_beside_it_untouched(hot_folder: Path) -> None:
    video, decoded = hotspot_video(hot_folder, "beside")
    place = composer_of(hot_relevance(), layout="beside").stage.original
    assert place is not None
    left = place[1]
    for original, picture in zip(video, decoded.pictures, strict=True):
        assert difference(picture[:240, left : left + 320], original).mean() < 3
        assert np.percentile(difference(picture[:240, left + 4 : left + 316], original[:, 4:316]), 99.9) < 12


@pytest.mark.parametrize("layout", ["beside", "over"])
def test_a_hotspot_is_coloured_where_it_is_and_nowhere_else(hot_folder: Path, layout: str) -> None:
    left = composer_of(hot_relevance(), layout=layout).stage.overlay[1]
    assert left == {"beside": 330, "over": 0}[layout]
    video, decoded = hotspot_video(hot_folder, layout)
    inside, outside = np.zeros((2, 240, 320), dtype=bool)
    inside[72 + 5 : 168 - 5, 100 + 5 : 180 - 5] = True  # a voxel is 24 x 20 pixels; the rim apart
    outside[:] = True
    outside[72 - 4 : 168 + 4, 100 - 4 : 180 + 4] = False  # chroma has half the resolution
    outside[:, [*range(4), *range(316, 320)]] = False  # white lies beside it
    for number, (original, picture) in enumerate(zip(video, decoded.pictures, strict=True)):
        panel = picture[:240, left : left + 320]
        blend = (1 - HOTSPOT_OPACITY) * original + HOTSPOT_OPACITY * MAGENTA
        expected = blend if number < 10 else original.astype(float)
        assert difference(panel, expected)[inside].mean() < 5
        assert np.percentile(difference(panel, original)[outside], 99.8) < 16
    rim = decoded.pictures[0][72:168, left + 100]
    assert difference(rim[None, 8:-8], MAGENTA).mean() < 60
    assert rim[8:-8, 1].mean() < 60  # green, of which magenta has none


def test_the_cursor_moves_from_left_to_right(hot_folder: Path) -> None:
    _, decoded = hotspot_video(hot_folder, "beside")
    strip = composer_of(hot_relevance(), layout="beside").strip
    first, last = strip.columns
    columns = []
    for picture in decoded.pictures:
        bars = picture[240:][slice(*strip.rows), first : last + 1]
        columns.append(first + int(np.argmin(bars.max(axis=2).max(axis=0))))
    assert columns == pytest.approx(first + np.arange(20) / 20 * (last - first), abs=3)


def test_bars_are_red_above_zero_and_blue_below_and_as_high_as_the_relevance() -> None:
    relevance = SampledRelevance(
        np.zeros((2, 4, 4)),
        np.array([4.0, 1.0]),
        np.array([-1.0, -4.0]),
        np.array([0.5, 1.5]),
        unit="units of the logit",
        threshold=0.3,
        largest=1.0,
    )
    composer = composer_of(relevance, end=2.0)
    strip = composer.strip
    bars = strip.picture[slice(*strip.rows)].astype(int)
    quarter = (strip.columns[1] - strip.columns[0]) // 4
    first, second = bars[:, strip.columns[0] + quarter], bars[:, strip.columns[0] + 3 * quarter]
    red = [(column[:, 0] > column[:, 2] + 60).sum() for column in (first, second)]
    blue = [(column[:, 2] > column[:, 0] + 60).sum() for column in (first, second)]
    assert red[0] == pytest.approx(4 * red[1], abs=4)
    assert blue[1] == pytest.approx(4 * blue[0], abs=4)
    assert strip.cursor_column(-5.0) == strip.columns[0]
    assert strip.cursor_column(1.0) == pytest.approx(np.mean(strip.columns), abs=1)
    assert strip.cursor_column(99.0) == strip.columns[1]


@pytest.mark.parametrize("samples", [1, 2, 30_000])
def test_any_number_of_samples_makes_a_strip(samples: int) -> None:
    times = np.arange(samples) / 30
    wave = np.abs(np.sin(times))
    relevance = SampledRelevance(
        np.zeros((1, 2, 2)), wave + 1, -wave, times, unit="units of the logit", threshold=0.3, largest=1.0
    )
    composer = composer_of(relevance, end=1.0)
    bars = composer.strip.picture[slice(*composer.strip.rows), composer.strip.columns[0] + 3 : -20].astype(int)
    assert (bars[..., 0] > bars[..., 2] + 60).any(axis=0).all()


def test_the_clock_shows_the_time() -> None:
    relevance = relevance_of([0.0, 10.0])
    composer = composer_of(relevance, end=10.0)
    frame = np.zeros((240, 320, 3), dtype=np.uint8)
    row, column = composer.strip.clock_corner
    clocks = [
        composer.compose(frame, seconds=s)[240 + row : 255 + row, column - 60 : column].copy() for s in (1.0, 1.0, 7.0)
    ]
    assert (clocks[0] == clocks[1]).all()
    assert (clocks[0] != clocks[2]).any()
    assert (clocks[0] < 100).any()


def test_a_frame_between_two_samples_has_the_nearer_one_and_the_earlier_of_two() -> None:
    relevance = relevance_of([0.0, 1.0, 3.0])
    times = (-1.0, 0.0, 0.4, 0.5, 0.6, 1.0, 1.99, 2.0, 2.01, 3.0, 9.0)
    assert [relevance.nearest(seconds) for seconds in times] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]


PAGE = """<pre></pre><video muted autoplay src="{name}"></video><script>
const v = document.querySelector("video");
setTimeout(() => {{ document.querySelector("pre").textContent =
  `${{v.videoWidth}} ${{v.videoHeight}} ${{v.duration}} ${{v.currentTime > 0.5}} ${{v.error}}`; }}, 5000);
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None and "CI" not in os.environ, reason="chromium is not installed")
def test_chromium_plays_it(hot_folder: Path, tmp_path: Path) -> None:
    _, decoded = hotspot_video(hot_folder, "beside")
    page = hot_folder / "page.html"
    page.write_text(PAGE.format(name="beside.mp4"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000", "--dump-dom", page.as_uri()]
    run = subprocess.run(["chromium", *flags], capture_output=True, text=True, timeout=120, check=True)
    height, width, _ = decoded.pictures[0].shape
    assert f"<pre>{width} {height} 2 true null</pre>" in run.stdout


def many_frames(count: int) -> Iterator[DisplayFrame]:
    for number in range(count):
        picture = np.full((60, 80, 3), number % 200, dtype=np.uint8)
        yield DisplayFrame(picture, number / 30)


def peak_bytes(path: Path, count: int) -> int:
    relevance = relevance_of([number / 2 for number in range(count // 15)])
    tracemalloc.start()
    try:
        write_overlay_video(path, many_frames(count), relevance=relevance, title="")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peak_bytes(tmp_path / "warm.mp4", 20)
    short, long = (peak_bytes(tmp_path / f"{count}.mp4", count) for count in (200, 1000))
    assert long < short + 2**20
    assert long < 24 * 2**20


def test_a_source_that_fails_midway_leaves_no_file(tmp_path: Path) -> None:
    def failing() -> Iterator[DisplayFrame]:
        yield from many_frames(30)
        raise OSError(errno.EIO, "the disk of the source")

    with pytest.raises(OSError, match="the disk of the source"):
        write_overlay_video(tmp_path / "a.mp4", failing(), relevance=relevance_of([0.0]), title="")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_there_stays_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    frames = [*many_frames(3), *many_frames(1)]
    with pytest.raises(VidactError, match=r"order of their times .* got 0\.000000 s after 0\.066667 s"):
        write_overlay_video(path, frames, relevance=relevance_of([0.0]), title="")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_no_frames_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(VidactError, match="no frames"):
        write_overlay_video(tmp_path / "a.mp4", [], relevance=relevance_of([0.0]), title="")
    assert list(tmp_path.iterdir()) == []


def test_frames_of_two_sizes_are_an_error(tmp_path: Path) -> None:
    frames = [DisplayFrame(np.zeros((240, width, 3), dtype=np.uint8), width / 10) for width in (320, 322)]
    with pytest.raises(VidactError, match=r"\(240, 320, 3\).*\(240, 322, 3\)"):
        write_overlay_video(tmp_path / "a.mp4", frames, relevance=relevance_of([0.0]), title="")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "a.mp4", Path("/proc/a.mp4"), tmp_path):
        with pytest.raises(EnvironmentProblem, match="cannot be written") as caught:
            write_overlay_video(place, many_frames(2), relevance=relevance_of([0.0]), title="")
        assert str(place) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_space_is_said_and_nothing_stays(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), dtype=np.uint8)
    frames = (DisplayFrame(picture, number / 30) for number, picture in enumerate(noise))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a full disk, for this process
    try:
        with pytest.raises(EnvironmentProblem, match=r"a\.mp4: cannot be written \(File too large"):
            write_overlay_video(tmp_path / "a.mp4", frames, relevance=relevance_of([0.0]), title="")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive": np.ones(3)}, r"shapes = \(\(3,\), \(2,\), \(2,\)\)"),
        ({"positive": np.array([1.0, np.nan])}, "finite"),
        ({"negative": np.ones(2)}, "positive >= 0 >= negative"),
        ({"times_seconds": np.array([1.0, 1.0])}, "increase"),
    ],
)
def test_relevance_that_does_not_fit_together_is_refused(
    change: dict[str, Float[np.ndarray, " S"]], message: str
) -> None:
    values = {"positive": np.ones(2), "negative": -np.ones(2), "times_seconds": np.arange(2.0)}
    with pytest.raises(VidactError, match=message):
        SampledRelevance(
            np.zeros((2, 4, 4)), **(values | change), unit="units of the logit", threshold=0.3, largest=1.0
        )


def test_a_map_that_is_not_finite_is_refused() -> None:
    relevance = SampledRelevance(
        np.full((1, 4, 4), np.inf),
        np.ones(1),
        -np.ones(1),
        np.zeros(1),
        unit="units of the logit",
        threshold=0.3,
        largest=1.0,
    )
    with pytest.raises(VidactError, match="sampled frame 0"):
        relevance.hotspots(0)


def test_no_relevance_means_no_hotspots() -> None:
    assert not relevance_of([0.0], np.zeros((1, 4, 4))).hotspots(0).any()
