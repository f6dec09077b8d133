import struct
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import pytest

from vidact.core.errors import DataError
from vidact.data.checks.file_inspection import inspect_file, inspect_video
from vidact.data.datasets.index import index_clips
from vidact.data.video.reading import open_container, read_frames
from vidact.data.video.similarity import near_duplicates

WriteClip = Callable[..., Path]


@pytest.mark.parametrize(
    ("ending", "encoder", "codec"),
    [("avi", "mpeg4", "mpeg4"), ("mp4", "libx264", "h264"), ("mkv", "libx265", "hevc"), ("webm", "libvpx-vp9", "vp9")],
)
def test_a_made_clip_is_measured_as_it_was_made(
    tmp_path: Path, write_clip: WriteClip, ending: str, encoder: str, codec: str
) -> None:
    path = write_clip(tmp_path / f"clip.{ending}", 13, size=(48, 64), codec=encoder)
    found = inspect_file(path)
    assert found.verdict == "ok", found.reason
    assert found.info is not None
    info = found.info
    assert (info.num_frames, info.width, info.height, info.fps, info.codec) == (13, 64, 48, 30.0, codec)
    assert info.header_frames in {0, 13}  # Matroska does not say
    assert (found.num_bytes, found.missing_bytes, found.damaged_frames) == (path.stat().st_size, 0, 0)
    assert (found.decoded_frames, len(found.frame_hashes)) == (13, 5)
    assert inspect_video(path) == info


def test_real_clips_are_measured_as_opencv_and_ffmpeg_do(hmdb51: Path, jhmdb: Path) -> None:
    """But for the rate of J-HMDB, whose files hold empty places between frames: fewer are shown than headers claim."""
    for root in (hmdb51, jhmdb):
        for clip in index_clips(root)[::53]:
            info = inspect_video(clip.path)
            capture = cv2.VideoCapture(str(clip.path))
            assert (info.width, info.height) == (int(capture.get(3)), int(capture.get(4)))
            claimed = capture.get(cv2.CAP_PROP_FPS)
            capture.release()
            with open_container(clip.path) as container:
                places = [packet.dts for packet in container.demux(video=0) if packet.size]
            share = (len(places) - 1) / (places[-1] - places[0])
            assert info.fps == pytest.approx(claimed * share)
            assert (share == 1) == (root == hmdb51)
            with open_container(clip.path) as container:
                assert info.num_frames == sum(1 for _ in container.decode(video=0))


def test_headers_of_real_clips_overstate_though_nothing_is_missing(jhmdb: Path) -> None:
    found = [inspect_file(clip.path) for clip in index_clips(jhmdb)[::16]]
    assert {inspection.verdict for inspection in found} == {"header_overstates"}
    for inspection in found:
        assert inspection.info is not None
        assert inspection.info.header_frames > inspection.info.num_frames == inspection.decoded_frames
        assert inspection.missing_bytes == inspection.damaged_frames == 0


def test_a_cut_real_clip_loses_its_partial_frame(hmdb51: Path, tmp_path: Path) -> None:
    """What is listed can be read, and is what the whole clip shows at the same numbers."""
    whole = index_clips(hmdb51)[5].path
    content = whole.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(content[: len(content) * 2 // 3])
    found = inspect_file(cut)
    assert found.verdict == "truncated"
    end = 8 + int.from_bytes(content[4:8], "little")  # of the RIFF chunk; zeros may follow it
    assert found.missing_bytes == end - cut.stat().st_size > 0
    assert found.info is not None
    numbers = range(found.info.num_frames)
    assert 5 < len(numbers) < inspect_video(whole).num_frames
    of_cut, of_whole = (read_frames(path, numbers, size=(60, 80), gray=True) for path in (cut, whole))
    assert (of_cut == of_whole).all()


def test_fingerprints_follow_the_picture_not_the_file(tmp_path: Path, hmdb51: Path) -> None:
    first, second = (index_clips(hmdb51)[row].path for row in (0, 200))
    copy = tmp_path / "copy.mkv"
    with open_container(first) as container, av.open(str(copy), "w") as out:
        stream = out.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    found = [inspect_file(path) for path in (first, copy, second)]
    assert found[0].sha1 != found[1].sha1
    assert [(pair.first, pair.second) for pair in near_duplicates([one.frame_hashes for one in found])] == [(0, 1)]


def test_what_cannot_be_measured_is_raised_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    path.write_text("<html>")
    with pytest.raises(DataError, match=f"{path}: not a video that FFmpeg can read"):
        inspect_video(path)


def test_a_video_that_is_shown_turned_is_read_with_pyav(tmp_path: Path, write_clip: Callable[..., Path]) -> None:
    """Phones write such files; decord turns their frames, PyAV does not."""
    path = write_clip(tmp_path / "phone.mp4", 5, size=(64, 128), codec="libx264")
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # behind the box's fixed fields
    quarter_turn = (0, 0x10000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000)
    content[matrix : matrix + 36] = struct.pack(">9I", *quarter_turn)
    assert inspect_file(path).verdict == "ok"
    path.write_bytes(content)
    found = inspect_file(path)
    assert found.verdict == "pyav_only"
    assert "is to be shown rotated" in found.reason
    assert found.rotated
    assert found.info is not None
    assert (found.info.height, found.info.width) == (128, 64)
