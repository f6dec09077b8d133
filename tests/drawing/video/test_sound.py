"""An overlay sounds as its video does, in step with its frames."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from jaxtyping import Float

from vidact.data.video.reading import open_container
from vidact.drawing.video.file import DisplayFrame, write_overlay_video
from vidact.drawing.video.overlay import MAX_WIDTH, SampledRelevance, frames_on_canvas
from vidact.drawing.video.sound import Sound

FPS, FRAMES, TONE_HZ = 25, 50, 440
BEEP_SECONDS = (0.8, 1.2)  # after the first picture


def write_source(path: Path, *, codec: str, rate: int, channels: int, begins_seconds: float = 0.0) -> None:
    """Write a video whose first picture comes at a time, with a tone for a part of it."""
    times = np.arange(int(2 * rate)) / rate
    tone = 0.5 * np.sin(2 * np.pi * TONE_HZ * times) * ((times >= BEEP_SECONDS[0]) & (times < BEEP_SECONDS[1]))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream(codec, rate=rate)
        layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
        sound.codec_context.layout = layout
        for number in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 4 * number, np.uint8), format="rgb24")
            picture.pts, picture.time_base = number + round(begins_seconds * FPS), Fraction(1, FPS)
            container.mux(video.encode(picture))
        samples = np.repeat(tone[None].astype(np.float32), channels, axis=0)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, round(begins_seconds * rate), Fraction(1, rate)
        resampler = av.AudioResampler(format=sound.codec_context.format, layout=layout, rate=rate)
        for part in resampler.resample(frame):
            container.mux(sound.encode(part))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def read_sound(path: Path) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"], str, int]:
    """Give each sample's time from the first picture on, its value, the codec and the number of channels."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).time
    times, values = [], []
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        for frame in container.decode(stream):
            array = frame.to_ndarray()
            times.append(float(frame.time) - float(first) + np.arange(frame.samples) / frame.sample_rate)
            values.append(array[0] if len(array) > 1 or stream.layout.nb_channels == 1 else array[0, ::2])
        return np.concatenate(times), np.concatenate(values), stream.codec_context.name, stream.layout.nb_channels


def write_overlay(source: Path | None, out: Path) -> str:
    frames = [DisplayFrame(np.full((64, 96, 3), 4 * n, np.uint8), n / FPS) for n in range(FRAMES)]
    ones = np.ones(1)
    relevance = SampledRelevance(
        np.ones((1, 8, 12)), ones, -ones, ones, unit="units of the logit", threshold=0.3, largest=1.0
    )
    with Sound(source, open_file=open_container) as sound:
        assert write_overlay_video(out, frames, relevance=relevance, title="tone", sound=sound) == FRAMES
    return sound.account


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels", "begins"),
    [
        ("a.mp4", "aac", 44100, 2, 0.0),
        ("a.mkv", "flac", 96000, 1, 0.0),
        ("a.avi", "pcm_s16le", 22050, 2, 0.0),
        ("a.mkv", "ac3", 48000, 6, 0.0),
        ("a.mkv", "aac", 48000, 2, 3.0),
        ("a.ts", "mp2", 48000, 2, 1.0),
    ],
)
def test_a_tone_is_heard_when_it_was(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int, begins: float
) -> None:
    source, out = tmp_path / name, tmp_path / "overlay.mp4"
    write_source(source, codec=codec, rate=rate, channels=channels, begins_seconds=begins)
    assert write_overlay(source, out) == "kept"
    times, values, written, written_channels = read_sound(out)
    assert (written, written_channels) == ("aac", min(channels, 2))
    heard = times[np.abs(values) > 0.1]
    assert (heard.min(), heard.max()) == pytest.approx(BEEP_SECONDS, abs=0.04)
    middle = values[(times > 0.9) & (times < 1.1)].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    step = 1 / (np.median(np.diff(times)) * len(middle))
    assert spectrum.argmax() * step == pytest.approx(TONE_HZ, abs=1.5 * step)
    with av.open(str(out)) as container:
        assert [float(frame.time) for frame in container.decode(video=0)] == pytest.approx(np.arange(FRAMES) / FPS)


def test_a_video_without_sound_has_none(tmp_path: Path) -> None:
    write_overlay(None, tmp_path / "silent.mp4")
    assert write_overlay(tmp_path / "silent.mp4", tmp_path / "overlay.mp4") == "none"
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert not container.streams.audio


def test_sound_that_cannot_be_read_costs_no_picture(tmp_path: Path) -> None:
    (tmp_path / "none.mp4").write_bytes(b"no video")
    assert write_overlay(tmp_path / "none.mp4", tmp_path / "overlay.mp4").startswith("skipped, as it cannot be read: ")


@pytest.mark.parametrize("layout", ["beside", "over"])
@pytest.mark.parametrize("size", [(2160, 3840), (1080, 1920), (300, 10_000), (3840, 2160), (17, 900), (240, 320)])
def test_the_canvas_is_no_wider_than_asked_for(size: tuple[int, int], layout: str) -> None:
    full, _ = frames_on_canvas(size, layout=layout, max_width=10**6)
    for most in (320, 640, 1920, 4096):
        stage, _ = frames_on_canvas(size, layout=layout, max_width=most)
        height, width = stage.frame_size
        corners = [stage.overlay, *([] if stage.original is None else [stage.original])]
        assert all(column + width <= stage.canvas_size[1] <= most for _, column in corners)
        assert all(row + height <= stage.canvas_size[0] for row, _ in corners)
        assert height == pytest.approx(width * size[0] / size[1], abs=1)
        if full.canvas_size[1] > most:
            assert stage.canvas_size[1] > most - 48 or most == 320, "as large as it fits"
        else:
            assert stage == full


def test_a_large_video_is_written_smaller(tmp_path: Path) -> None:
    picture = np.zeros((1080, 1920, 3), np.uint8)
    picture[:, 960:] = 200
    ones = np.ones(1)
    relevance = SampledRelevance(
        np.zeros((1, 8, 12)), ones, -ones, ones, unit="units of the logit", threshold=0.3, largest=1.0
    )
    write_overlay_video(tmp_path / "a.mp4", [DisplayFrame(picture, 0.0)], relevance=relevance, title="large")
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="gray")
    assert shown.shape[1] <= MAX_WIDTH
    stage, _ = frames_on_canvas((1080, 1920), layout="beside")
    (row, column), (height, width) = stage.overlay, stage.frame_size
    panel = shown[row : row + height, column : column + width]
    assert panel[:, : width // 2 - 4].max() < 30
    assert panel[:, width // 2 + 4 :].min() > 150
