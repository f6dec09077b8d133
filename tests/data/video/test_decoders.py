"""With either decoder and in every reader, frames are the right ones."""

from collections.abc import Callable
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition
from barcode_videos import HEIGHT, WIDTH, barcode, numbers_of, set_display_matrix, write_barcodes
from made_videos import inspect_here

from vidact.data.checks.file_inspection import inspect_file
from vidact.data.checks.findings import check_clips
from vidact.data.checks.frames import check_frames
from vidact.data.checks.inspection import inspect_clips
from vidact.data.datamodule import VideoDataModule
from vidact.data.datasets.index import index_clips
from vidact.data.loading.streaming import VideoFile
from vidact.data.loading.windows import WindowDataset, list_windows
from vidact.data.video.reading import Decoder, read_frames
from vidact.data.video.verdicts import Verdict, VideoInfo

SIZE = (HEIGHT, WIDTH)
NUM_FRAMES = 34
ALL = list(range(NUM_FRAMES))
DECODERS: tuple[Decoder, ...] = ("decord", "pyav")


def _ts_named_mp4(folder: Path) -> Path:
    return write_barcodes(folder / "ts.mp4", ALL, container="mpegts")


def _ts_named_avi(folder: Path) -> Path:
    return write_barcodes(folder / "transport.avi", ALL, container="mpegts", options={"g": "8", "bf": "2"})


def _two_streams(folder: Path) -> Path:
    """FFmpeg's best stream is the first; decord reads the larger one."""
    return write_barcodes(folder / "two.mp4", [60 - number for number in ALL], other_first=ALL)


def _negative_times(folder: Path) -> Path:
    return write_barcodes(folder / "early.mkv", ALL, shift=-500, options={"g": "8"})


def _av1(folder: Path) -> Path:
    return write_barcodes(folder / "av1.mp4", ALL, codec="libsvtav1", options={"preset": "8"})


def _gif(folder: Path) -> Path:
    return write_barcodes(folder / "clip.gif", ALL, codec="gif", pix_fmt="rgb8")


def _live_webm(folder: Path) -> Path:
    return write_barcodes(folder / "live.webm", ALL, codec="libvpx", container="webm", options={"b": "1000000"})


def _narrow(folder: Path) -> Path:
    return write_barcodes(folder / "narrow.avi", ALL, codec="mpeg4", size=(96, 72))


def _turned(folder: Path) -> Path:
    path = write_barcodes(folder / "turned.mp4", ALL)
    set_display_matrix(path, -1, 0, 0, -1)
    return path


ODD: tuple[Callable[[Path], Path], ...] = (
    *(_ts_named_mp4, _ts_named_avi, _two_streams, _negative_times, _av1, _gif, _live_webm, _narrow, _turned),
)


def _info(path: Path, decoder: Decoder = "decord") -> VideoInfo:
    found = inspect_file(path, decoder=decoder)
    assert found.info is not None, found.reason
    return found.info


def _read(path: Path, *, decoder: Decoder) -> list[int]:
    """Read all frames as training does."""
    info = _info(path, decoder)
    (clip,) = [clip for clip in index_clips(path.parent.parent) if clip.path == path]
    windows = list_windows([clip], {path: info}, num_frames=info.num_frames, stride=1, num_windows=1)
    return numbers_of(WindowDataset(windows, size=SIZE, gray=False, decoder=decoder)[0].video[0])


@pytest.fixture(autouse=True)
def _inspected_here(monkeypatch: pytest.MonkeyPatch) -> None:
    inspect_here(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (folder := tmp_path / "wave").mkdir()
    return folder


@pytest.mark.parametrize("make", ODD)
def test_training_explaining_and_the_check_see_the_same_frames(make: Callable[[Path], Path], folder: Path) -> None:
    path = make(folder)
    upside_down = make is _turned
    truth = [int(f"{number:06b}"[::-1], 2) for number in ALL] if upside_down else ALL
    assert [_read(path, decoder=decoder) for decoder in DECODERS] == [truth, truth]
    explained = torch.stack([torch.from_numpy(frame.picture) for frame in VideoFile(path).frames()])
    assert numbers_of(explained.permute(3, 0, 1, 2)) == truth
    only_pyav = [path] if _info(path).only_pyav else []
    assert check_frames(index_clips(folder.parent), only_pyav=only_pyav).passed


def test_files_that_decord_reads_otherwise_are_named_and_kept(folder: Path) -> None:
    makers = (_ts_named_mp4, _ts_named_avi, _two_streams, _negative_times, _av1, _gif, _narrow)
    paths = [make(folder) for make in makers]
    for path in paths:
        found = inspect_file(path)
        assert found.verdict is Verdict.PYAV_ONLY, path
        assert found.reason
        assert found.usable
        assert not found.verdict.is_fault
        alone = inspect_file(path, decoder="pyav")
        assert alone.verdict is Verdict.OK
        assert alone.info is not None
        assert alone.info.only_pyav == ""
    check = check_clips(index_clips(folder.parent), inspect_clips(paths))
    (line,) = [line for line in check.summary() if "PyAV" in line]
    assert line.startswith("read with PyAV, whatever --data.decoder says: 7, the first wave/av1: ")


@pytest.mark.parametrize("make", [_ts_named_avi, _two_streams])
def test_what_decord_gives_of_these_files_is_wrong(make: Callable[[Path], Path], folder: Path) -> None:
    """Else the tests above prove nothing."""
    path = make(folder)
    assert numbers_of(read_frames(path, ALL, size=SIZE, gray=False, decoder="decord")) != ALL


CONTAINERS = ("clip.avi", "clip.mp4", "clip.mkv", "clip.mov", "ts.mp4", "ts.mkv", "ts.avi")
CODECS = (("mpeg4", {"bf": "0"}), ("mpeg4", {"bf": "2"}), ("libx264", {"bf": "0"}), ("libx264", {"bf": "3"}))
# Every container with B-frames of either codec, and every one of these with short and long groups of pictures.
CASES = (
    *(
        (name, codec, ("4", "100")[(place + codec // 2) % 2])
        for place, name in enumerate(CONTAINERS)
        for codec in (1, 3)
    ),
    *(("clip.avi", 0, "4"), ("ts.avi", 0, "100"), ("clip.mp4", 2, "100"), ("ts.mp4", 2, "4")),
)


@pytest.mark.parametrize(("name", "codec", "gop"), CASES)
def test_numbers_are_right_in_every_container_codec_and_group_of_pictures(
    folder: Path, name: str, codec: int, gop: str
) -> None:
    encoder, options = CODECS[codec]
    rng = np.random.default_rng([codec, int(gop), len(name)])
    shown = rng.integers(0, 64, int(rng.integers(3, 40))).tolist()
    container = "mpegts" if name.startswith("ts") else None
    path = write_barcodes(folder / name, shown, codec=encoder, container=container, options=options | {"g": gop})
    for decoder in DECODERS:
        assert _read(path, decoder=decoder) == shown, decoder


def test_sound_files_are_not_called_otherwise(folder: Path) -> None:
    """Still pictures, one picture, and one that moves by a few pixels."""
    write_barcodes(folder / "still.avi", [7] * 20, codec="mpeg4")
    write_barcodes(folder / "one.mp4", [7])
    write_barcodes(folder / "all.mkv", ALL)
    assert [inspect_file(path).verdict for path in sorted(folder.iterdir())] == ["ok"] * 3


def test_a_cover_is_no_video(folder: Path) -> None:
    """A piece of music with a picture of its cover is not a clip of one frame."""
    path = folder / "music.mp4"
    with av.open(str(path), "w") as file:
        sound: Any = file.add_stream("aac", rate=8000)
        cover: Any = file.add_stream("png", rate=30)
        cover.height, cover.width, cover.pix_fmt = HEIGHT, WIDTH, "rgb24"
        cover.disposition = Disposition.attached_pic
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        samples.rate = 8000
        for stream, frame in ((sound, samples), (cover, av.VideoFrame.from_ndarray(barcode(1), format="rgb24"))):
            file.mux(stream.encode(frame))
            file.mux(stream.encode())
    found = inspect_file(path)
    assert found.verdict is Verdict.NOT_A_VIDEO
    assert "no video stream" in found.reason


@pytest.mark.parametrize("matrix", [(1, 0, 0, 1), *((a, 0, 0, d) for a, d in ((-1, 1), (1, -1), (-1, -1)))])
@pytest.mark.parametrize("transposed", [False, True])
def test_every_turn_and_mirror_is_seen_by_training_and_explaining(
    folder: Path, matrix: tuple[int, int, int, int], transposed: bool
) -> None:
    """The corners' colours go where the matrix sends the corners, pixel by pixel."""
    path = write_barcodes(folder / "clip.mp4", ALL[:3], options={"crf": "1"})
    a, b, c, d = (0, matrix[0], matrix[3], 0) if transposed else matrix
    set_display_matrix(path, a, b, c, d)
    info = _info(path)
    stored = barcode(0)
    shape = (WIDTH, HEIGHT) if transposed else SIZE
    truth = np.zeros((*shape, 3), np.uint8)
    for row, column in product(range(0, HEIGHT, 3), range(0, WIDTH, 3)):
        x, y = a * column + c * row, b * column + d * row
        truth[y if y > 0 or b + d > 0 else y - 1, x if x > 0 or a + c > 0 else x - 1] = stored[row, column]
    known = truth.any(axis=2)
    assert (info.height, info.width) == shape
    explained = next(iter(VideoFile(path).frames())).picture
    trained = read_frames(path, [0], size=shape, gray=False, decoder="pyav")[:, 0].permute(1, 2, 0).numpy()
    for picture in (explained, trained):
        assert np.abs(picture[known].astype(int) - truth[known]).mean() < 4
    assert bool(info.only_pyav) == ((a, b, c, d) != (1, 0, 0, 1))


def test_an_odd_angle_is_refused(folder: Path) -> None:
    path = write_barcodes(folder / "clip.mp4", ALL[:3])
    set_display_matrix(path, 1, 1, -1, 1)
    found = inspect_file(path)
    assert (found.verdict, found.usable) == (Verdict.UNSUPPORTED, False)
    assert "rotated by 45°" in found.reason


def test_pixels_that_are_not_square_are_shown_with_their_aspect_and_fed_the_same(folder: Path) -> None:
    path = write_barcodes(folder / "wide.mp4", ALL[:3], pixel_aspect=Fraction(2), options={"crf": "1"})
    info = _info(path)
    assert (info.height, info.width) == (HEIGHT, 2 * WIDTH)
    first = next(iter(VideoFile(path).frames()))
    assert first.shown.shape == (HEIGHT, 2 * WIDTH, 3)
    assert numbers_of(torch.from_numpy(first.shown).permute(2, 0, 1)[:, None]) == [0]
    assert first.picture.shape == (*SIZE, 3)
    fed = [read_frames(path, [0], size=SIZE, gray=False, decoder=decoder) for decoder in DECODERS]
    assert (fed[0].int() - fed[1].int()).abs().max() <= 6


def test_the_cache_knows_which_decoder_reads_each_file(
    tmp_path: Path, write_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training of both kinds of files holds the right frames, from the cache too, and says so once."""
    monkeypatch.setenv("VIDACT_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "set"
    for name, container in (("wave", "mpegts"), ("jump", None)):
        (root / name).mkdir(parents=True)
        for number in range(3):
            shown = [(place + 5 * number) % 64 for place in range(20)]
            write_barcodes(root / name / f"{number}.mp4", shown, container=container)
    said: list[str] = []
    monkeypatch.setattr("vidact.data.datamodule.rank_zero_info", said.append)
    for _ in range(2):
        data = VideoDataModule(str(root), num_frames=4, stride=1, size=SIZE, gray=False, num_workers=0, split="clip")
        data.prepare_data()
        data.setup("fit")
        for batch in data.train_dataloader():
            for row, clip_id in enumerate(batch.clip_id):
                first = 5 * int(clip_id.split("/")[1])
                wanted = [(number + first) % 64 for number in batch.frame_numbers[row].tolist()]
                assert numbers_of(batch.video[row]) == wanted
    assert said[0].count("read with PyAV, whatever --data.decoder says: 3, the first wave/0: decord") == 1
