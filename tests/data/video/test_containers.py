import hashlib
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidact.data.video.containers import file_sha1, missing_bytes

WriteClip = Callable[..., Path]


@pytest.fixture(scope="module", params=["avi", "mp4", "mov", "mkv", "webm", "faststart.mp4", "fragments.mp4"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / f"clip.{request.param}"
    flags = {"faststart.mp4": "faststart", "fragments.mp4": "frag_keyframe"}.get(request.param)
    codec = "libvpx-vp9" if path.suffix == ".webm" else "mpeg4"
    with av.open(str(path), "w", options={"movflags": flags} if flags else {}) as container:
        stream = container.add_stream(codec, rate=30, options={"g": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"  # type: ignore[attr-defined]
        for number in range(20):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([10 * number]) * plane.buffer_size)
            container.mux(stream.encode(frame))  # type: ignore[attr-defined]
        container.mux(stream.encode())  # type: ignore[attr-defined]
    return path.read_bytes()


def _missing(folder: Path, content: bytes) -> int:
    path = folder / "clip"
    path.write_bytes(content)
    return missing_bytes(path)


def test_a_whole_file_misses_nothing_and_one_byte_less_is_seen(whole: bytes, tmp_path: Path) -> None:
    assert _missing(tmp_path, whole) == 0
    assert _missing(tmp_path, whole[:-1]) == 1


def test_a_cut_file_misses_something_but_no_more_than_was_cut(whole: bytes, tmp_path: Path) -> None:
    index_header = 8
    for percent in (10, 50, 90):
        kept = len(whole) * percent // 100
        missing = _missing(tmp_path, whole[:kept])
        # Fragments follow each other: what follows the one that is cut is not announced.
        assert 0 < missing <= max(len(whole) - kept, index_header), percent


def test_rubbish_after_the_end_is_of_no_concern(whole: bytes, tmp_path: Path) -> None:
    for rubbish in (b"\xff" * 100, b"\n", bytes(range(1, 200))):
        assert _missing(tmp_path, whole + rubbish) == 0


def test_an_mp4_without_its_index_misses_it(tmp_path: Path, write_clip: WriteClip) -> None:
    content = write_clip(tmp_path / "clip.mp4", 5).read_bytes()
    index = content.index(b"moov") - 4
    assert _missing(tmp_path, content[:index]) == 8


def test_an_avi_of_several_riff_chunks_is_walked_through(tmp_path: Path) -> None:
    """OpenDML continues a large AVI in further chunks, here of 10 and 7 bytes, the last one padded."""
    chunks = b"RIFF\x0a\0\0\0AVI " + bytes(6) + b"RIFF\x07\0\0\0AVIX" + bytes(3) + b"\0"
    assert _missing(tmp_path, chunks) == 0
    assert _missing(tmp_path, chunks[:-1]) == 0  # the pad is often left out
    assert _missing(tmp_path, chunks[:-3]) == 2  # of the data, the pad not counted
    assert _missing(tmp_path, chunks[:15]) == 3


def test_a_box_with_a_long_size_is_understood(tmp_path: Path) -> None:
    boxes = b"\0\0\0\x08moov" + b"\0\0\0\x01mdat" + (30).to_bytes(8, "big") + bytes(14)
    assert _missing(tmp_path, boxes) == 0
    assert _missing(tmp_path, boxes[:-4]) == 4


def test_a_size_that_was_never_filled_in_tells_nothing(tmp_path: Path) -> None:
    for size in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        assert _missing(tmp_path, b"RIFF" + size + b"AVI " + bytes(100)) == 0
    assert _missing(tmp_path, bytes.fromhex("1A45DFA3 80 18538067 01FFFFFFFFFFFFFF") + bytes(50)) == 0


@given(content=st.binary(max_size=64), magic=st.sampled_from([b"", b"RIFF", bytes(4) + b"ftyp", b"\x1a\x45\xdf\xa3"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
def test_any_bytes_are_survived(tmp_path: Path, content: bytes, magic: bytes) -> None:
    assert _missing(tmp_path, magic + content) >= 0


def test_no_real_clip_misses_a_byte(hmdb51: Path, jhmdb: Path) -> None:
    """Though nearly all headers of J-HMDB claim more frames than exist."""
    paths = [path for root in (hmdb51, jhmdb) for path in sorted((root / "videos").rglob("*.avi"))]
    assert len(paths) > 1000
    assert not [path for path in paths if missing_bytes(path)]


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert file_sha1(tmp_path / "file") == hashlib.sha1(content).hexdigest()
