import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.frame import PictureType

from vidact.core.errors import DataError
from vidact.data.checks.file_inspection import inspect_video
from vidact.data.datasets.index import index_clips
from vidact.data.video import reading as video_module
from vidact.data.video.reading import Decoder, open_container, read_frames, read_sparsely, write_video
from vidact.data.video.sampling import windows

WriteClip = Callable[..., Path]


def _sequential(path: Path) -> Iterator[np.ndarray]:
    """Decode with PyAV from the first frame to the last: the truth."""
    with open_container(path) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _assert_same_picture(found: torch.Tensor, truth: np.ndarray) -> None:
    """Compare; two builds of FFmpeg round the inverse cosine transform differently, by a few grey levels."""
    difference = np.abs(found.numpy().transpose(1, 2, 0).astype(int) - truth)
    assert difference.max() <= 6
    assert difference.mean() < 0.05


def _check_frames(path: Path, wanted: list[int], truth: list[np.ndarray] | None = None) -> None:
    truth = truth or list(_sequential(path))
    video = read_frames(path, wanted, size=truth[0].shape[:2], gray=False)
    for place, number in enumerate(wanted):
        _assert_same_picture(video[:, place], truth[number])


def test_frames_of_real_clips_are_the_ones_asked_for(hmdb51: Path) -> None:
    """Every window of 8 HMDB51 clips, frame by frame: sparse reads get wrong frames in every one of them."""
    for clip in index_clips(hmdb51)[::124]:
        truth = list(_sequential(clip.path))
        assert inspect_video(clip.path).num_frames == len(truth)
        for stride in (2, "adaptive"):
            for wanted in windows(len(truth), num_frames=16, stride=stride, num_windows=2):  # type: ignore[arg-type]
                _check_frames(clip.path, list(wanted), truth)


def test_the_last_frame_of_real_clips_can_be_read(hmdb51: Path, jhmdb: Path) -> None:
    for root in (hmdb51, jhmdb):
        for clip in index_clips(root)[::62]:
            last = inspect_video(clip.path).num_frames - 1
            _check_frames(clip.path, [last, 0])


def test_neighbouring_frames_of_real_clips_are_distinguished(hmdb51: Path) -> None:
    """The comparison above can fail: a frame one early is seen, wherever something moves."""
    clip = index_clips(hmdb51)[0]
    truth = list(_sequential(clip.path))
    video = read_frames(clip.path, [20], size=truth[0].shape[:2], gray=False)
    with pytest.raises(AssertionError):
        _assert_same_picture(video[:, 0], truth[19])


MPEG4 = {"qmin": "2", "qmax": "2", "g": "10"}
X264 = "bframes=3:b-adapt=0:keyint=10:min-keyint=10:scenecut=0:log=-1"
X265 = "bframes=3:b-adapt=0:keyint=10:min-keyint=10:scenecut=0:log-level=none"
CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "mpeg4, no B-frames": ("mpeg4", MPEG4 | {"bf": "0"}),
    "mpeg4, 1 B-frame": ("mpeg4", MPEG4 | {"bf": "1"}),
    "mpeg4, 2 B-frames": ("mpeg4", MPEG4 | {"bf": "2"}),
    "H.264, closed": ("libx264", {"x264-params": f"{X264}:open-gop=0"}),
    "H.264, open": ("libx264", {"x264-params": f"{X264}:open-gop=1"}),
    "HEVC, closed": ("libx265", {"x265-params": f"{X265}:open-gop=0"}),
    "HEVC, open": ("libx265", {"x265-params": f"{X265}:open-gop=1"}),
    "VP9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "10", "b": "2000000"}),
}
WITHOUT_B_FRAMES = {"mpeg4, no B-frames", "VP9"}
MADE = [
    *((name, "avi") for name in CODECS if name.startswith(("mpeg4", "H.264"))),
    *((name, "mp4") for name in ("mpeg4, 1 B-frame", "H.264, closed", "HEVC, open", "VP9")),
    *((name, "mkv") for name in ("mpeg4, 2 B-frames", "H.264, open", "HEVC, closed")),
    ("VP9", "webm"),
]
NUM_MADE = 40


def _encode(path: Path, codec: str, options: dict[str, str], *, tag: str = "", packed: bool = False) -> None:
    """Write 40 pictures, the n-th of brightness 20 + 5n with a square that moves."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(30), options=options | {"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        if tag:
            stream.codec_context.codec_tag = tag
        packets = []
        for number in range(NUM_MADE):
            image = np.full((64, 96, 3), 20 + 5 * number, np.uint8)
            image[20:30, 2 * number : 2 * number + 10] = 128
            packets += stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        packets += stream.encode()
        for packet in _pack([bytes(packet) for packet in packets], stream) if packed else packets:
            container.mux(packet)


def _pack(chunks: list[bytes], stream: Any) -> Iterator[av.Packet]:
    """Lay each B-frame behind the P-frame before it, and an empty chunk in its own place, as DivX 5 and XviD do."""
    start, b_frame = b"\0\0\1\xb6", 2
    chunks = [
        chunk.replace(start, b"\0\0\1\xb2DivX503b1393p" + start) if not n else chunk for n, chunk in enumerate(chunks)
    ]
    types = [chunk[chunk.index(start) + 4] >> 6 for chunk in chunks]
    assert types.count(b_frame) > 10
    for number in range(len(chunks)):
        if types[number] == b_frame:
            chunks[number - 1 : number + 1] = [chunks[number - 1] + chunks[number], b"\x7f"]
    for number, chunk in enumerate(chunks):
        packet = av.Packet(chunk)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 30)
        packet.is_keyframe = number == 0
        yield packet


def _check_made(path: Path) -> None:
    truth = list(_sequential(path))
    assert len(truth) == NUM_MADE
    for wanted in (list(range(NUM_MADE)), [39], [12, 14, 16, 18], [20, 21], [31, 3, 3, 17]):
        _check_frames(path, wanted, truth)
        corner = read_frames(path, wanted, size=(64, 96), gray=True)[0, :, :16].float().mean(dim=(1, 2))
        assert corner.tolist() == pytest.approx([20 + 5 * number for number in wanted], abs=2.4)  # rounding twice


@pytest.mark.parametrize(("name", "container"), MADE)
def test_frames_of_every_codec_and_container_are_the_ones_asked_for(tmp_path: Path, name: str, container: str) -> None:
    path = tmp_path / f"clip.{container}"
    _encode(path, *CODECS[name])
    _check_made(path)
    with av.open(str(path)) as file:
        types = {int(frame.pict_type) for frame in file.decode(video=0)}
    assert (PictureType.B in types) == (name not in WITHOUT_B_FRAMES)


@pytest.mark.parametrize("packed", [False, True])
def test_frames_of_xvid_clips_are_the_ones_asked_for(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "clip.avi"
    _encode(path, "mpeg4", MPEG4 | {"bf": "1", "flags": "+bitexact", "g": "100"}, tag="XVID", packed=packed)
    with av.open(str(path)) as file:
        assert file.streams.video[0].codec_context.codec_tag == "XVID"
        sizes = [packet.size for packet in file.demux(video=0) if packet.size]
    assert (1 in sizes) == packed
    _check_made(path)


def test_decoding_ends_at_the_last_frame_that_is_needed(
    tmp_path: Path, write_clip: WriteClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, calls = write_clip(tmp_path / "clip.avi", 30), []

    class Counting(video_module.decord.VideoReader):  # type: ignore[misc]
        def next(self) -> Any:
            calls.append(1)
            return super().next()

    monkeypatch.setattr(video_module.decord, "VideoReader", Counting)
    read_frames(path, [11, 3], size=(8, 8), gray=True)
    assert len(calls) == 12


@pytest.mark.parametrize("wanted", [[], [3, -1]])
def test_frame_numbers_count_from_zero(tmp_path: Path, write_clip: WriteClip, wanted: list[int]) -> None:
    with pytest.raises(ValueError, match="expected one or more frame numbers, each at least 0"):
        read_frames(write_clip(tmp_path / "clip.avi", 5), wanted, size=(8, 8), gray=True)


def test_a_sparse_read_is_what_decord_gives(tmp_path: Path, write_clip: WriteClip) -> None:
    path = write_clip(tmp_path / "clip.avi", 20, options={"bf": "0"})
    assert read_sparsely(path, [3, 9]).shape == (2, 48, 64, 3)
    with pytest.raises(DataError, match="decord cannot read 1 frames of it by number"):
        read_sparsely(path, [20])


def test_resizing_is_the_same_alone_and_in_company(tmp_path: Path) -> None:
    """A frame does not depend on which others are read with it."""
    path = tmp_path / "noise.avi"
    noise = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    write_video(path, noise, fps=30)
    together = read_frames(path, range(6), size=(20, 30), gray=False)
    alone = [read_frames(path, [number], size=(20, 30), gray=False) for number in range(6)]
    assert torch.equal(together, torch.cat(alone, dim=1))


def test_resizing_averages_instead_of_skipping(tmp_path: Path) -> None:
    """A fine chequerboard becomes grey; without antialiasing it would become black or white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    path = tmp_path / "board.avi"
    write_video(path, [np.repeat(board[..., None], 3, axis=2)] * 3, fps=30, options={"b": "20000000"})
    small = read_frames(path, [1], size=(16, 16), gray=True)
    assert small.float().mean().item() == pytest.approx(127, abs=10)
    assert small.float().std().item() < 12


def test_gray_is_luma(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    write_video(path, [red] * 3, fps=30)
    assert read_frames(path, [0], size=(8, 8), gray=True).float().mean().item() == pytest.approx(0.299 * 200, abs=4)


LUMA_WEIGHTS = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114)}  # of red and blue, ITU-R BT.709 and BT.601


@pytest.mark.parametrize("matrix", LUMA_WEIGHTS)
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_are_those_of_the_matrix_that_the_file_names(tmp_path: Path, matrix: str, full_range: bool) -> None:
    rgb = np.array([200, 30, 60]) / 255
    red, blue = LUMA_WEIGHTS[matrix]
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    chroma = (rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)
    y, u, v = (255 * luma, *(128 + 255 * part for part in chroma))
    if not full_range:
        y, u, v = 16 + 219 * luma, *(128 + 224 * part for part in chroma)
    planes = np.vstack([np.full((48, 64), round(y)), np.full((12, 64), round(u)), np.full((12, 64), round(v))])
    frame = av.VideoFrame.from_ndarray(planes.astype(np.uint8), format="yuv420p")
    tags = {"colorspace": matrix, "color_range": "pc" if full_range else "tv"}
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"qp": "1", **tags})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(4):
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    decoders: tuple[Decoder, ...] = ("decord", "pyav")
    for decoder in decoders:
        read = read_frames(tmp_path / "clip.mp4", [2], size=(48, 64), gray=False, decoder=decoder)
        assert np.abs(read[:, 0, 24, 32].numpy() - 255 * rgb).max() <= 3, decoder


def test_measuring_counts_the_frames_that_decode(tmp_path: Path, write_clip: WriteClip) -> None:
    path = write_clip(tmp_path / "clip.avi", 30)
    info = inspect_video(path)
    assert (info.num_frames, info.header_frames, info.width, info.height, info.fps) == (30, 30, 64, 48, 30)


def test_measuring_sees_that_a_clip_is_cut(hmdb51: Path, tmp_path: Path) -> None:
    clip = index_clips(hmdb51)[0]
    whole = inspect_video(clip.path)
    content = clip.path.read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(content[: len(content) // 2])
    info = inspect_video(cut)
    assert 0 < info.num_frames < whole.num_frames - 5
    assert info.header_frames == whole.header_frames
    _check_frames(cut, [0, info.num_frames - 1])
    with pytest.raises(DataError, match="was asked for, decoding ends before it"):
        read_frames(cut, [whole.num_frames - 1], size=(8, 8), gray=True)


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("<html>not found</html>")


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.avi")


def _nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_empty, "the file is empty"),
        (_text, "not a video that FFmpeg can read"),
        (_folder, "not a regular file"),
        (_pipe, "not a regular file"),
        (_dangling, "no such file"),
        (_nothing, "no such file"),
    ],
)
def test_what_is_no_video_is_named(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "clip.avi"
    make(path)
    with pytest.raises(DataError, match=message):
        inspect_video(path)
    if make is not _text:
        with pytest.raises(DataError, match=message):
            read_frames(path, [0], size=(8, 8), gray=True)


def test_garbage_fails_when_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(DataError, match="decord cannot decode it"):
        read_frames(path, [0], size=(8, 8), gray=True)


def test_a_header_that_claims_billions_of_frames_never_reaches_decord(tmp_path: Path, write_clip: WriteClip) -> None:
    """decord would reserve room for them and end the process."""
    path = write_clip(tmp_path / "clip.avi", 20)
    content = path.read_bytes()
    count = (20).to_bytes(4, "little")
    header = content[: content.index(b"movi")].replace(count, (4_000_000_000).to_bytes(4, "little"))
    path.write_bytes(header + content[len(header) :])
    info = inspect_video(path)
    assert info.num_frames == 20
    assert "the header claims 4,000,000,000 frames" in info.only_pyav


def test_a_width_that_decord_garbles_is_for_pyav(tmp_path: Path, write_clip: WriteClip) -> None:
    """At some small widths decord takes the padding of a line for more colours."""
    path = write_clip(tmp_path / "clip.avi", 5, size=(48, 24))
    with pytest.raises(DataError, match=r"decord garbles frames of this width \(24 pixels\)"):
        read_frames(path, [0], size=(8, 8), gray=True)
    assert "decord garbles" in inspect_video(path).only_pyav
    assert read_frames(path, [0], size=(8, 8), gray=True, decoder="pyav").shape == (1, 1, 8, 8)


@pytest.mark.parametrize("name", ["-x.avi", "a [b] #c;d&'\"<x>.avi", "日本 ü" + "x" * 110 + ".avi"])
def test_odd_names_are_read(tmp_path: Path, write_clip: WriteClip, name: str) -> None:
    path = write_clip(tmp_path / name, 5)
    assert inspect_video(path).num_frames == 5
    assert read_frames(path, [4], size=(8, 8), gray=True).shape == (1, 1, 8, 8)


def test_a_header_with_bytes_that_are_no_utf_8_is_read_by_old_and_new_pyav(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV 19 knows no `metadata_errors` any more; the versions before it need it."""
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Stra-e"
        stream: Any = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"Stra-e", b"Stra\xdfe"))
    assert read_frames(path, [0], size=(8, 8), gray=True, decoder="pyav").shape == (1, 1, 8, 8)

    opened, spelled = av.open, {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    monkeypatch.setattr(av, "open", lambda file, mode="r": opened(file, mode, **spelled))
    assert read_frames(path, [0], size=(8, 8), gray=True, decoder="pyav").shape == (1, 1, 8, 8)
