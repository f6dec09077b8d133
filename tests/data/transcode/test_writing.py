import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from made_videos import write_timed

from vidact.core.errors import ConfigError, DataError, EnvironmentProblem
from vidact.core.folders import scratch_folder
from vidact.data.checks.file_inspection import inspect_video
from vidact.data.datasets.hmdb51 import read_official_split
from vidact.data.datasets.index import index_clips
from vidact.data.loading.masks import MaskFolder, find_masks
from vidact.data.splits.files import find_official_folder
from vidact.data.transcode.encoding import TranscodeSettings, small_size, transcode_clip
from vidact.data.transcode.writing import transcode
from vidact.data.video.reading import open_container, read_frames, read_sparsely, write_video

WriteClip = Callable[..., Path]
SMALL = TranscodeSettings(short_side=32)


def _moving(num_frames: int, size: tuple[int, int] = (48, 80), seed: int = 0) -> list[np.ndarray]:
    """Frames that all differ: a smooth pattern that moves by more than a coder's noise from one to the next."""
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    rows, columns = np.indices(size)[:, ..., None] / 12  # [H, W, 1]
    return [
        (127 + 90 * np.sin(rows + phase + 0.4 * number) * np.cos(columns - 0.25 * number)).astype(np.uint8)
        for number in range(num_frames)
    ]


def _sequential(path: Path) -> list[np.ndarray]:
    with open_container(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _shrink(frame: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    return torch.nn.functional.interpolate(picture, size=size, mode="bilinear", antialias=True)[0]


def _assert_same_frames(path: Path, copy: Path) -> None:
    """Frame k of the copy looks like frame k of the clip, and less like any other that is not its equal."""
    size = (24, 32)
    truth = torch.stack([_shrink(frame, size) for frame in _sequential(path)]).flatten(1)  # [T, C·H·W]
    found = read_frames(copy, range(len(truth)), size=size, gray=False).transpose(0, 1).float().flatten(1)
    difference = torch.cdist(found, truth, p=1) / truth.shape[1]  # [T of the copy, T of the clip], grey levels
    own = difference.diagonal()
    assert own.max() < 5
    assert ((difference.min(dim=1).values - own).abs() < 0.2).all()


def _facts(path: Path) -> tuple[int, Fraction | None, tuple[int, int], str]:
    with open_container(path) as container:
        stream = container.streams.video[0]
        rate, size, codec = stream.average_rate, (stream.height, stream.width), stream.codec_context.name
        return sum(1 for _ in container.decode(stream)), rate, size, codec


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_real_clips_keep_their_frames_and_rate(hmdb51: Path, jhmdb: Path, tmp_path: Path, codec: str) -> None:
    """HMDB51 has packed B-frames and odd times, J-HMDB headers that overstate."""
    clips = [*index_clips(hmdb51)[::400], *index_clips(jhmdb)[::80]]
    before = after = 0
    for number, clip in enumerate(clips):
        copy = tmp_path / f"{number}.avi"
        num_frames = transcode_clip(clip.path, copy, settings=TranscodeSettings(codec=codec))  # type: ignore[arg-type]
        old, new = _facts(clip.path), _facts(copy)
        assert (num_frames, old[1]) == (old[0], new[1]) == new[:2]
        assert min(new[2]) == 128
        assert new[3] == codec
        _assert_same_frames(clip.path, copy)
        before, after = before + clip.path.stat().st_size, after + copy.stat().st_size
    assert after < before / 2


@pytest.mark.parametrize(
    ("ending", "codec", "stored"),
    [
        (".avi", "mpeg4", "mpeg4"),
        (".mkv", "mpeg4", "mpeg4"),
        (".mp4", "h264", "h264"),
        (".mov", "h264", "h264"),
        (".webm", "h264", "vp9"),
    ],
)
def test_copies_survive_readers_that_seek(tmp_path: Path, ending: str, codec: str, stored: str) -> None:
    """Over two groups of pictures, at places that a plain clip with B-frames gets wrong."""
    path, copy = tmp_path / "clip.mp4", tmp_path / f"copy{ending}"
    write_video(path, _moving(75), fps=30, codec="libx264")
    transcode_clip(path, copy, settings=TranscodeSettings(32, codec))  # type: ignore[arg-type]
    num_frames, rate, size, found = _facts(copy)
    assert (num_frames, rate, size, found) == (75, 30, (32, 54), stored)
    _assert_same_frames(path, copy)
    wanted = [3, 28, 29, 30, 31, 44, 47, 59, 61, 74]
    true = read_frames(copy, wanted, size=size, gray=False)  # [C, T, H, W]
    assert torch.equal(read_sparsely(copy, wanted), true.permute(1, 2, 3, 0))


def test_h264_in_avi_is_right_for_readers_from_the_first_frame_on(tmp_path: Path) -> None:
    path, copy = tmp_path / "clip.mp4", tmp_path / "copy.avi"
    write_video(path, _moving(75), fps=30, codec="libx264")
    transcode_clip(path, copy, settings=TranscodeSettings(32, "h264"))
    assert _facts(copy) == (75, 30, (32, 54), "h264")
    _assert_same_frames(path, copy)


@pytest.mark.parametrize(
    ("rate", "ending"),
    [
        (Fraction(30000, 1001), ".avi"),
        (Fraction(30000, 1001), ".mp4"),
        (Fraction(12), ".avi"),
        (Fraction(60), ".mp4"),
        (Fraction(25), ".mkv"),
    ],
)
def test_any_rate_is_kept(tmp_path: Path, rate: Fraction, ending: str) -> None:
    path, copy = tmp_path / "clip.mp4", tmp_path / f"copy{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        for image in _moving(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    assert transcode_clip(path, copy, settings=SMALL) == 20
    assert _facts(copy)[:2] == (20, rate)


@pytest.mark.parametrize(
    ("ending", "codec"),
    [(".avi", "mpeg4"), (".avi", "h264"), (".mp4", "mpeg4"), (".mkv", "h264"), (".webm", "mpeg4")],
)
def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path, ending: str, codec: str) -> None:
    """In AVI to the nearest of its evenly spaced places, as J-HMDB has them."""
    times = [Fraction(0), *(Fraction(n, 30) for n in (1, 2, 4, 5, 9, 10, 11, 30, 31, 33))]
    path, copy = write_timed(tmp_path / "clip.mp4", times), tmp_path / f"copy{ending}"
    assert transcode_clip(path, copy, settings=TranscodeSettings(32, codec)) == len(times)
    place = 1 / 30 if ending == ".avi" else 0.0
    found = inspect_video(copy)
    assert found.num_frames == len(times)
    assert found.shown_at == pytest.approx([float(time) for time in times], abs=place / 2 + 0.0011)
    _assert_same_frames(path, copy)


def test_clips_with_b_frames_keep_their_frames(tmp_path: Path) -> None:
    path, copy = tmp_path / "clip.avi", tmp_path / "copy.avi"
    write_video(path, _moving(31), fps=30, options={"bf": "2"})
    assert transcode_clip(path, copy, settings=SMALL) == 31
    _assert_same_frames(path, copy)


def test_colours_stay_what_they_are(tmp_path: Path) -> None:
    """Full-range and BT.709 pixels are other numbers for the same colours."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :32], image[:, 32:64], image[:, 64:] = (200, 30, 30), (20, 180, 40), (40, 50, 220)
    bt709 = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
    cases = [("yuvj420p", "mjpeg", {}), ("yuv420p", "libx264", bt709), ("yuv444p", "libx264", {})]
    for number, (pix_fmt, codec, options) in enumerate(cases):
        path, copy = tmp_path / f"{number}.mkv", tmp_path / f"copy{number}.mkv"
        write_video(path, [image] * 3, fps=30, codec=codec, options=options, pix_fmt=pix_fmt)
        transcode_clip(path, copy, settings=TranscodeSettings(64, "h264"))
        old, new = (read_frames(file, [1], size=(16, 24), gray=False).float() for file in (path, copy))
        patches = (slice(None), 0, slice(2, -2), [3, 4, 11, 12, 19, 20])
        assert (old[patches] - new[patches]).abs().max() < 8


def test_sound_is_dropped(tmp_path: Path) -> None:
    path, copy = tmp_path / "clip.mp4", tmp_path / "copy.mp4"
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("libx264", rate=30), container.add_stream("aac", rate=44100)
        video.height, video.width, video.pix_fmt = 48, 80, "yuv420p"
        for image in _moving(10):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44100
        container.mux(audio.encode(silence))
        container.mux([*video.encode(), *audio.encode()])
    assert transcode_clip(path, copy, settings=SMALL) == 10
    with av.open(str(copy)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(8, 300).map(lambda half: 2 * half))
def test_sides_are_even_never_more_than_there_is_and_of_the_same_aspect(height: int, width: int, short: int) -> None:
    small = small_size(height, width, short_side=short)
    for side, old in zip(small, (height, width), strict=True):
        assert side % 2 == 0
        assert side <= max(old, 2)
        assert abs(side - old * min(1, short / min(height, width))) <= 2
    if min(height, width) >= short:
        assert min(small) == short


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", _moving(20), fps=30)
    for codec in ("h264", "mpeg4"):
        found = set()
        for _ in range(10):  # with x264's macroblock tree, a third of them differed
            transcode_clip(tmp_path / "clip.avi", tmp_path / "copy.avi", settings=TranscodeSettings(32, codec))  # type: ignore[arg-type]
            found.add((tmp_path / "copy.avi").read_bytes())
        assert len(found) == 1


def _snapshot(folder: Path) -> dict[str, bytes]:
    """Everything that is visible below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.name[0] != "."}


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Three clips with odd names, split files, masks and a stray file."""
    root = tmp_path / "set"
    names = ("videos/run/-a [1] #c;d&.avi", "videos/run/b.mp4", "videos/jump/日本 ü.AVI")
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / name, _moving(12 + number, seed=number), fps=30)
    for name in ("splits/run_test_split1.txt", "masks/run/b.npz", "README.txt", "videos/run/Thumbs.db"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_names_and_layout_stay_and_what_was_not_copied_is_listed(data_set: Path, tmp_path: Path) -> None:
    out, calls = tmp_path / "small", []
    threads = threading.active_count()
    report = transcode(data_set, out, settings=SMALL, progress=lambda *counts: calls.append(counts))
    assert threading.active_count() == threads, "none is left over"
    assert (report.written, report.kept, report.copied) == (3, 0, 3)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert set(_snapshot(out)) == set(_snapshot(data_set)) - {"videos/run/Thumbs.db"} | {"transcode.json"}
    assert (report.skipped, report.ignored) == ((), 1)  # Thumbs.db
    for name in ("splits/run_test_split1.txt", "masks/run/b.npz", "README.txt"):
        assert (out / name).read_bytes() == name.encode()
    for path in data_set.glob("videos/*/*"):
        if path.suffix != ".db":
            _assert_same_frames(path, out / path.relative_to(data_set))
    clips = [path for path in out.rglob("*") if path.suffix.lower() in {".avi", ".mp4"}]
    assert report.bytes_after == sum(path.stat().st_size for path in clips)


def test_links_to_folders_are_not_followed_and_that_is_reported(data_set: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_video(tmp_path / "elsewhere" / "x.avi", _moving(5), fps=30)
    (data_set / "videos" / "walk").symlink_to(tmp_path / "elsewhere")
    (data_set / "videos" / "run" / "again").symlink_to(data_set / "videos")  # a circle
    report = transcode(data_set, tmp_path / "small", settings=SMALL)
    assert report.written == 3
    assert sum("a link to a folder or out of" in line for line in report.skipped) == 2


def test_jhmdb_keeps_its_masks_and_splits(jhmdb: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "small"
    for clip in index_clips(jhmdb, classes=["jump", "wave"])[::20]:
        for part, ending in (("videos", ".avi"), ("puppet_mask", ".mat")):
            name = f"{part}/{clip.clip_id}{ending}"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes((jhmdb / name).read_bytes())
    (root / "splits").mkdir()
    for path in (jhmdb / "splits").glob("*_test_split1.txt"):
        (root / "splits" / path.name).write_bytes(path.read_bytes())
    transcode(root, out)
    assert [clip.clip_id for clip in index_clips(out)] == [clip.clip_id for clip in index_clips(root)]
    flags = [read_official_split(find_official_folder(r), fold=1, class_names=["jump", "wave"]) for r in (root, out)]
    assert flags[0] == flags[1]
    for clip in index_clips(out):
        num_frames = _facts(clip.path)[0]
        masks = find_masks(out)
        assert masks is not None
        assert MaskFolder(masks).read(clip.clip_id, [0], clip_frames=num_frames, size=(96, 96)).any()


def test_a_second_run_writes_nothing(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    transcode(data_set, out, settings=SMALL)
    before = {path: path.stat().st_ino for path in out.rglob("*") if path.is_file() and path.name != "transcode.json"}
    report = transcode(data_set, out, settings=SMALL)
    assert (report.written, report.kept) == (0, 3)
    assert {path: path.stat().st_ino for path in before} == before


def test_a_changed_clip_is_copied_again_though_it_may_be_older_and_a_broken_one_loses_its_copy(
    data_set: Path, tmp_path: Path
) -> None:
    out, name = tmp_path / "small", "videos/run/b.mp4"
    transcode(data_set, out, settings=SMALL)
    write_video(data_set / name, _moving(30, seed=7), fps=30)
    os.utime(data_set / name, (1e9, 1e9))
    report = transcode(data_set, out, settings=SMALL)
    assert (report.written, report.kept) == (1, 2)
    _assert_same_frames(data_set / name, out / name)
    (data_set / name).write_bytes(b"rubbish")
    report = transcode(data_set, out, settings=SMALL)
    assert (report.written, report.kept) == (0, 2)
    assert not (out / name).exists(), "one that breaks later loses its copy"


def test_a_run_that_was_stopped_is_taken_up_and_ends_the_same(data_set: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    transcode(data_set, whole, settings=SMALL)

    def stop(done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcode(data_set, stopped, settings=SMALL, progress=stop)
    with scratch_folder(stopped) as room:  # as a killed process leaves it
        (room / "half.avi").write_bytes(b"RIFF")
        shutil.copytree(room.parent, stopped / ".vidact-0123456789abcdef")
    report = transcode(data_set, stopped, settings=SMALL)
    assert report.written + report.kept == 3
    assert report.kept >= 1
    assert _snapshot(stopped) == _snapshot(whole)
    assert not list(stopped.glob(".vidact-*"))


def test_what_a_user_has_put_among_the_copies_stays(data_set: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "small", ["videos/run/b.mp4", "splits/mine.txt"]
    (data_set / "splits").mkdir(exist_ok=True)
    (data_set / "splits/mine.txt").write_text("as it was")
    transcode(data_set, out, settings=SMALL)
    (out / ".transcode" / "notes").mkdir(parents=True)
    for name in names:
        (out / name).write_text("edited by hand")
        os.utime(data_set / name, (2e9, 2e9))
    report = transcode(data_set, out, settings=SMALL)
    assert [line.partition(": ")[0] for line in report.skipped] == [str(out / name) for name in names]
    assert all("is not the copy that was written there; move it and try again" in line for line in report.skipped)
    assert [(out / name).read_text() for name in names] == ["edited by hand"] * 2
    assert (out / ".transcode" / "notes").is_dir()
    (out / names[0]).unlink()
    assert transcode(data_set, out, settings=SMALL).written == 1


def test_no_copy_is_written_through_a_link(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    transcode(data_set, out, settings=SMALL)
    (out / "videos").rename(tmp_path / "moved")
    (out / "videos").symlink_to(tmp_path / "moved")
    name = "videos/run/b.mp4"
    kept = (out / name).read_bytes()
    (data_set / name).write_bytes(b"rubbish")
    os.utime(data_set / name, (2e9, 2e9))
    report = transcode(data_set, out, settings=SMALL)
    assert any("lies behind, a link to" in line for line in report.skipped)
    assert (out / name).read_bytes() == kept


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _text(path: Path) -> None:
    path.write_text("<html>not found</html>")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.mp4")


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _outside(path: Path) -> None:
    path.rename(path.parents[3] / "elsewhere.mp4")
    path.symlink_to(path.parents[3] / "elsewhere.mp4")


def _sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        silence.sample_rate = 44100
        container.mux(audio.encode(silence))
        container.mux(audio.encode())


BROKEN: dict[Callable[[Path], None], str] = {
    _cut: "the file ends .* bytes before its container does",
    _text: "not a video that FFmpeg can read",
    _empty: "the file is empty",
    _pipe: "not a regular file",
    _dangling: "no such file",
    _loop: "too many levels of symbolic links",
    _outside: "a link to a folder or out of",
    _sound_only: "holds no video stream",
}


def test_broken_clips_are_listed_and_the_rest_goes_on(data_set: Path, tmp_path: Path) -> None:
    broken = {data_set / f"videos/run/b{spoil.__name__}.mp4": spoil for spoil in BROKEN}
    for path, spoil in broken.items():
        shutil.copy(data_set / "videos/run/b.mp4", path)
        spoil(path)
    report = transcode(data_set, tmp_path / "small", settings=SMALL)
    assert (report.written, len(report.skipped)) == (3, len(broken))
    for path, spoil in broken.items():
        (line,) = (line for line in report.skipped if line.startswith(f"{path}: "))
        assert re.search(BROKEN[spoil], line)
        assert "\n" not in line
        assert not (tmp_path / "small/videos/run" / path.name).exists()


def test_a_damaged_frame_is_not_hidden_by_a_copy(hmdb51: Path, tmp_path: Path) -> None:
    """Bits flipped in the middle of a real clip: FFmpeg conceals what it cannot decode, and says so."""
    content = bytearray(index_clips(hmdb51)[0].path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    path = tmp_path / "clip.avi"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"frame \d+ is damaged|does not decode to its end"):
        transcode_clip(path, tmp_path / "copy.avi", settings=SMALL)


def test_a_copy_that_could_not_be_read_is_refused(tmp_path: Path, write_clip: WriteClip) -> None:
    """decord garbles frames that are 72 pixels wide; 96 by 144 would become 48 by 72."""
    path = write_clip(tmp_path / "clip.avi", 5, size=(96, 144))
    with pytest.raises(
        DataError, match=r"clip\.avi: its copy cannot be read back \(.*garbles.*\); try another --short"
    ):
        transcode_clip(path, tmp_path / "copy.avi", settings=TranscodeSettings(48))


def test_folders_that_lie_in_each_other_are_refused(data_set: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data_set)
    for out in (data_set, data_set / "small", tmp_path, tmp_path / "link"):
        with pytest.raises(DataError, match="must not lie in each other"):
            transcode(data_set, out, settings=SMALL)
    assert not (data_set / "small").exists()


def test_a_folder_that_holds_something_else_is_left_alone(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match="expected nothing or a copy with .* found other files"):
        transcode(data_set, out, settings=SMALL)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_other_settings_are_refused_and_both_are_reported(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    transcode(data_set, out, settings=SMALL)
    with pytest.raises(DataError, match=r"'short_side': 48.* found .*'short_side': 32"):
        transcode(data_set, out, settings=TranscodeSettings(48))
    assert json.loads((out / "transcode.json").read_text()) == {"format_version": 1, "short_side": 32, "codec": "mpeg4"}


def test_two_runs_do_not_write_one_copy(data_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    out.mkdir()
    with FileLock(out / ".transcode.lock"), pytest.raises(DataError, match="another run is writing this copy"):
        transcode(data_set, out, settings=SMALL)


def test_a_folder_without_clips_is_reported(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for root in (tmp_path / "set", tmp_path / "nowhere"):
        with pytest.raises(DataError, match="found no clip in it"):
            transcode(root, tmp_path / "small", settings=SMALL)
    assert not (tmp_path / "small").exists()


def test_a_place_that_cannot_be_written_is_reported(data_set: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="the copy cannot be written"):
        transcode(data_set, tmp_path / "file" / "small", settings=SMALL)


@pytest.mark.parametrize("short_side", [127, 14])
def test_short_sides_out_of_range_are_reported(short_side: int) -> None:
    with pytest.raises(
        ConfigError, match=f"--short-side must be an even number of pixels, at least 16, got {short_side}"
    ):
        TranscodeSettings(short_side)
