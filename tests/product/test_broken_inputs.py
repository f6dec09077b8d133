"""Every kind of broken input gets its verdict, and whatever frames are listed can be read."""

import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from vidact.data.checks.inspection import inspect_clips
from vidact.data.video.paths import path_fault
from vidact.data.video.reading import Decoder, read_frames, write_video
from vidact.data.video.verdicts import Inspection

NUM_FRAMES = 40
NAMES = ["-x.avi", "a [b] #c;d&.avi", "日本 ü.avi", "x" * 116 + ".avi", "'\"<x>.avi", "100%d ~+!@.avi"]
NUM_FLIPPED = 20


def _moving(num_frames: int = NUM_FRAMES, size: tuple[int, int] = (96, 128)) -> list[np.ndarray]:
    """Blocks that move to the right by three pixels a frame, with some noise: every frame takes its bytes."""
    generator = np.random.default_rng(0)
    rows, columns = -(-size[0] // 16), -(-size[1] // 16)
    blocks = generator.integers(60, 180, (rows, columns, 3), np.uint8)
    picture = blocks.repeat(16, axis=0).repeat(16, axis=1)[: size[0], : size[1]]
    noise = generator.integers(0, 40, (num_frames, *size, 3), np.uint8)
    return [np.roll(picture, 3 * number, axis=1) + noise[number] for number in range(num_frames)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    makers = {"avi": ("mpeg4", {}), "mp4": ("libx264", {}), "mkv": ("libx264", {}), "mpeg4.mp4": ("mpeg4", {})}
    contents = {}
    for name, (codec, options) in makers.items():
        path = folder / f"clip.{name}"
        write_video(path, _moving(), fps=30, codec=codec, options=options)
        contents[name] = path.read_bytes()
    with av.open(str(folder / "fast.mp4"), "w", options={"movflags": "faststart"}) as container:
        _encode(container, "mpeg4", _moving())
    contents["fast.mp4"] = (folder / "fast.mp4").read_bytes()
    return contents


def _encode(container: av.container.OutputContainer, codec: str, frames: list[np.ndarray]) -> None:
    stream = container.add_stream(codec, rate=30, options={"threads": "1"})
    stream.height, stream.width = frames[0].shape[:2]  # type: ignore[attr-defined]
    stream.pix_fmt = "yuv420p"  # type: ignore[attr-defined]
    for frame in frames:
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))  # type: ignore[attr-defined]
    container.mux(stream.encode())  # type: ignore[attr-defined]


def _with_frame_count(content: bytes, count: int) -> bytes:
    """Let every header of an AVI file claim another number of frames."""
    head = content[: content.index(b"movi")]
    changed = head.replace(NUM_FRAMES.to_bytes(4, "little"), count.to_bytes(4, "little"))
    assert changed != head
    return changed + content[len(head) :]


def _with_frame_size(content: bytes, side: int) -> bytes:
    """Let the headers of an AVI file, and the stream's own, claim another width and height."""
    changed = content.replace(struct.pack("<II", 128, 96), struct.pack("<II", side, side))
    assert changed != content
    return changed


def _flip_bits(content: bytes, seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    damaged = bytearray(content)
    for place in generator.integers(0, len(damaged), generator.integers(1, 20)):
        damaged[place] ^= 1 << int(generator.integers(8))
    return bytes(damaged)


def _write_special(folder: Path) -> None:
    (folder / "directory.avi").mkdir()
    os.mkfifo(folder / "fifo.avi")
    (folder / "device.avi").symlink_to("/dev/zero")
    (folder / "dangling.avi").symlink_to("nowhere.avi")
    (folder / "loop.avi").symlink_to("loop.avi")
    (folder / "link.avi").symlink_to("whole.avi")
    here = Path.cwd()
    os.chdir(folder)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.avi")
    finally:
        os.chdir(here)


def _write_bytes(folder: Path, whole: dict[str, bytes]) -> None:
    avi = whole["avi"]
    contents = {
        "empty": b"",
        "text": b"not a video\n" * 50,
        "html": b"<html><body>404 not found</body></html>",
        "zeros": bytes(20_000),
        "noise": np.random.default_rng(1).bytes(20_000),
        "eight_bytes": avi[:8],
        "whole": avi,
        "trailing": avi + b"rubbish" * 100,
        "overstates": _with_frame_count(avi, NUM_FRAMES + 8),
        "billions": _with_frame_count(avi, 4_000_000_000),
        "huge_container": _with_frame_size(avi, 65_500),
    }
    for name, content in contents.items():
        (folder / f"{name}.avi").write_bytes(content)
    for ending, content in whole.items():
        for percent in (10, 50, 90):
            (folder / f"cut_{percent}.{ending}").write_bytes(content[: len(content) * percent // 100])
    for seed in range(NUM_FLIPPED):
        ending = list(whole)[seed % len(whole)]
        (folder / f"flipped_{seed:02}.{ending}").write_bytes(_flip_bits(whole[ending], seed))
    for name in NAMES:
        (folder / name).write_bytes(avi)


def _write_encoded(folder: Path) -> None:
    write_video(folder / "one_frame.avi", _moving(1), fps=30)
    write_video(folder / "two_frames.avi", _moving(2), fps=30)
    write_video(folder / "av1.mp4", _moving(5), fps=30, codec="libsvtav1", options={"preset": "12"})
    write_video(folder / "huge.avi", _moving(5), fps=30, codec="ffv1", pix_fmt="yuv444p")
    (folder / "huge.avi").write_bytes(_with_frame_size((folder / "huge.avi").read_bytes(), 16_000))
    write_video(folder / "odd.avi", _moving(5, (13, 17)), fps=30)
    write_video(folder / "odd.mkv", _moving(5, (13, 17)), fps=30, codec="ffv1", pix_fmt="yuv444p")
    write_video(folder / "narrow.avi", _moving(5, (48, 24)), fps=30)
    with av.open(str(folder / "audio.mkv"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), layout="mono")
        samples.rate = 8000
        container.mux(sound.encode(samples))  # type: ignore[attr-defined]
    with av.open(str(folder / "no_frames.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"  # type: ignore[attr-defined]
        container.start_encoding()


def _states(folder: Path) -> dict[Path, tuple[int, ...]]:
    states = {path: path.lstat() for path in sorted(folder.iterdir())}
    return {path: (state.st_ino, state.st_mode, state.st_size, state.st_mtime_ns) for path, state in states.items()}


@pytest.fixture(scope="module")
def inspected(whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Inspection]]:
    """Inspect all broken files in one pass."""
    folder = tmp_path_factory.mktemp("broken")
    _write_special(folder)
    _write_bytes(folder, whole)
    _write_encoded(folder)
    before = _states(folder)
    paths = [*before, folder / "missing.avi", folder / "whole.avi" / "below.avi"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDACT_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = inspect_clips(paths, time_limit_seconds=30.0, num_processes=1)
    assert _states(folder) == before, "inspecting changed a file"
    return {path.name: (path, inspection) for path, inspection in found.items()}


@pytest.mark.parametrize(
    ("name", "verdict", "words"),
    [
        ("missing.avi", "missing", "no such file"),
        ("below.avi", "missing", "not a directory"),
        ("dangling.avi", "missing", "a link to nowhere.avi"),
        ("loop.avi", "missing", "in a circle"),
        ("directory.avi", "not_a_file", "a directory"),
        ("fifo.avi", "not_a_file", "a FIFO"),
        ("socket.avi", "not_a_file", "a socket"),
        ("device.avi", "not_a_file", "a device"),
        ("empty.avi", "empty", "0 bytes"),
        ("text.avi", "not_a_video", "FFmpeg"),
        ("html.avi", "not_a_video", "FFmpeg"),
        ("zeros.avi", "not_a_video", ""),
        ("noise.avi", "not_a_video", ""),
        ("audio.mkv", "not_a_video", "no video stream"),
        ("no_frames.avi", "not_a_video", "no frame decodes"),
        ("eight_bytes.avi", "truncated", "no frame is left"),
        ("huge.avi", "unsupported", "16000x16000"),
        ("cut_10.avi", "truncated", "no frame"),
        ("cut_10.mp4", "truncated", "no frame is left"),
        ("cut_50.mp4", "truncated", "no frame is left"),
        ("cut_90.mp4", "truncated", "no frame is left"),
        ("cut_50.mpeg4.mp4", "truncated", "no frame is left"),
        ("cut_10.mkv", "truncated", "no frame"),
    ],
)
def test_what_cannot_be_used_has_a_verdict(
    inspected: dict[str, tuple[Path, Inspection]], name: str, verdict: str, words: str
) -> None:
    _, found = inspected[name]
    assert (found.verdict, found.usable) == (verdict, False), found.reason
    assert words in found.reason
    assert "\n" not in found.reason


@pytest.mark.parametrize(
    ("name", "verdict", "num_frames"),
    [
        ("whole.avi", "ok", NUM_FRAMES),
        ("link.avi", "ok", NUM_FRAMES),
        ("trailing.avi", "ok", NUM_FRAMES),
        ("huge_container.avi", "ok", NUM_FRAMES),  # the stream itself knows better
        ("odd.mkv", "ok", 5),
        ("one_frame.avi", "ok", 1),
        ("two_frames.avi", "ok", 2),
        ("overstates.avi", "header_overstates", NUM_FRAMES),
        *((name, "ok", NUM_FRAMES) for name in NAMES),
    ],
)
def test_what_can_be_used_has_its_frames(
    inspected: dict[str, tuple[Path, Inspection]], name: str, verdict: str, num_frames: int
) -> None:
    _, found = inspected[name]
    assert found.verdict == verdict, found.reason
    assert found.info is not None
    assert found.info.num_frames == num_frames


@pytest.mark.parametrize(
    ("name", "num_frames", "words"),
    [
        ("billions.avi", NUM_FRAMES, "claims 4,000,000,000 frames"),
        ("av1.mp4", 5, "codec av1"),
        ("narrow.avi", 5, "decord garbles frames of this width (24 pixels)"),
        (
            "odd.avi",
            5,
            "decord's picture 0 is not PyAV's, it differs by up to",
        ),  # 17x13 pixels, in the colours' rounding
    ],
)
def test_what_decord_cannot_read_is_read_with_pyav(
    inspected: dict[str, tuple[Path, Inspection]], name: str, num_frames: int, words: str
) -> None:
    _, found = inspected[name]
    assert found.verdict == "pyav_only", found.reason
    assert found.info is not None
    assert found.info.num_frames == num_frames
    assert words in found.reason == found.info.only_pyav


@pytest.mark.parametrize("name", ["cut_90.avi", "cut_50.mkv", "cut_90.mkv"])
def test_a_cut_file_is_used_as_far_as_it_is_whole(inspected: dict[str, tuple[Path, Inspection]], name: str) -> None:
    _, found = inspected[name]
    assert found.verdict == "truncated"
    assert found.missing_bytes > 0
    assert found.info is not None
    assert 0 < found.info.num_frames < NUM_FRAMES
    assert f"the first {found.info.num_frames}" in found.reason


def test_a_cut_file_that_decord_fails_in_is_not_used(inspected: dict[str, tuple[Path, Inspection]]) -> None:
    """Its index names frames that are gone, and decord's error may come up at any frame."""
    _, found = inspected["cut_90.fast.mp4"]
    assert (found.verdict, found.usable) == ("truncated", False)
    assert "are intact" in found.reason


def test_flipped_bits_are_seen_as_damage(inspected: dict[str, tuple[Path, Inspection]]) -> None:
    """Nothing in these containers guards single bits, so a few flips pass as sound."""
    found = [inspection for name, (_, inspection) in inspected.items() if name.startswith("flipped")]
    assert len(found) == NUM_FLIPPED
    assert sum(inspection.verdict == "damaged" for inspection in found) > NUM_FLIPPED / 2
    assert sum(inspection.usable for inspection in found) < NUM_FLIPPED / 4
    assert {inspection.verdict for inspection in found} <= {"ok", "damaged", "not_a_video", "truncated"}


def test_every_listed_frame_is_the_one_that_ffmpeg_decodes(inspected: dict[str, tuple[Path, Inspection]]) -> None:
    compared = 0
    for path, found in inspected.values():
        if found.info is None:
            continue
        size = (found.info.height, found.info.width)
        decoder: Decoder = "pyav" if found.info.only_pyav else "decord"
        video = read_frames(path, range(found.info.num_frames), size=size, gray=False, decoder=decoder)  # [C, T, H, W]
        with av.open(str(path)) as container:
            for number, frame in zip(range(found.info.num_frames), container.decode(video=0), strict=False):
                truth = frame.to_ndarray(format="rgb24").astype(int)
                assert np.abs(video[:, number].numpy().transpose(1, 2, 0) - truth).mean() < 3, (path.name, number)
                compared += 1
    assert compared > 10 * NUM_FRAMES


@pytest.fixture
def forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_clip: Callable[..., Path]) -> Path:
    """A file that may not be read; root may read everything, so for root the question is answered as for others."""
    path = write_clip(tmp_path / "clip.avi", 5)
    path.chmod(0)
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "access", lambda path, mode: bool(stat.S_IMODE(os.stat(path).st_mode)))  # noqa: PTH116
    return path


def test_a_file_that_may_not_be_read_is_named(forbidden: Path) -> None:
    fault = path_fault(forbidden)
    assert fault is not None
    assert (fault.verdict, fault.usable) == ("unreadable", False)
    assert inspect_clips([forbidden]) == {forbidden: fault}


def test_a_name_that_is_not_unicode_is_named(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.avi"))
    path.write_bytes(b"RIFF")
    fault = inspect_clips([path])[path]
    assert fault.verdict == "unsupported"
    assert "not valid UTF-8" in fault.reason
