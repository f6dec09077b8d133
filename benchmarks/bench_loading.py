"""How fast clips are read, from their files and from the cache, and how long a training step waits for them.

Run by `make bench`, not by `make test`. On HMDB51 where VIDACT_HMDB51 names it, else on clips made here. Each number
is worth something only beside the others of its run.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import decord
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as transforms

from vidact.core.clips import ClipBatch, as_float
from vidact.data.datasets.index import Clip, index_clips
from vidact.data.loading.decoded import DecodedWindows, decode_windows
from vidact.data.loading.windows import Window, WindowDataset, join
from vidact.data.video.reading import open_container, read_frames, write_video
from vidact.data.video.sampling import windows
from vidact.models.stacked import StackedFramesCNN

SIZE = (100, 100)
BATCH_SIZE = 100
NUM_STEPS = 10  # more than the workers have ready at the start
NUM_CLIPS = 200
Video = torch.Tensor


@pytest.fixture(scope="module")
def clip_windows(tmp_path_factory: pytest.TempPathFactory) -> list[Window]:
    """The middle 16 frames at stride 2 of 200 clips."""
    if "VIDACT_HMDB51" in os.environ:
        clips = index_clips(Path(os.environ["VIDACT_HMDB51"]))
        return [_window(clip) for clip in clips[:: max(len(clips) // NUM_CLIPS, 1)][:NUM_CLIPS]]
    folder = tmp_path_factory.mktemp("clips") / "noise"
    folder.mkdir()
    made = [_window(Clip(_make(folder / f"{number}.avi", number), "noise", 0, "", None)) for number in range(20)]
    return made * (NUM_CLIPS // 20)


def _make(path: Path, number: int) -> Path:
    """Write a clip as HMDB51's are: 320x240, 78 frames, two B-frames, something moves."""
    picture = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = (np.roll(picture, 3 * shift, axis=1) for shift in range(78))
    write_video(path, frames, fps=30, options={"bf": "2", "g": "12", "b": "800000"})
    return path


def _window(clip: Clip) -> Window:
    with open_container(clip.path) as container:
        num_frames = sum(1 for _ in container.decode(video=0))
    numbers = windows(num_frames, num_frames=16, stride=2, num_windows=1)[0]
    return Window(clip, 0, numbers, tuple(number / 30 for number in numbers), clip_frames=num_frames)


@pytest.fixture
def one_core() -> Iterator[None]:
    """What a worker has where there are as many workers as cores."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    cores = os.sched_getaffinity(0)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def _finish(frames: dict[int, Video], numbers: tuple[int, ...]) -> Video:
    """Resize and turn gray as vidact does: [H, W, C] each, to [1, T, h, w]."""
    kept = sorted(frames)
    small = [transforms.resize(frames[k].permute(2, 0, 1)[None], list(SIZE), antialias=True) for k in kept]
    gray = transforms.rgb_to_grayscale(torch.cat(small))
    return gray[[kept.index(number) for number in numbers]].transpose(0, 1)


def read_with_vidact(path: Path, numbers: tuple[int, ...]) -> Video:
    return read_frames(path, numbers, size=SIZE, gray=True)


def read_with_vidact_and_pyav(path: Path, numbers: tuple[int, ...]) -> Video:
    return read_frames(path, numbers, size=SIZE, gray=True, decoder="pyav")


def read_sparsely(path: Path, numbers: tuple[int, ...]) -> Video:
    wanted = sorted(set(numbers))
    batch = decord.VideoReader(str(path), num_threads=1).get_batch(wanted).asnumpy()
    return _finish(dict(zip(wanted, torch.from_numpy(batch), strict=True)), numbers)


def read_with_pyav(path: Path, numbers: tuple[int, ...]) -> Video:
    frames, last = {}, max(numbers)
    with open_container(path) as container:
        container.streams.video[0].thread_type = "NONE"
        for number, frame in enumerate(container.decode(video=0)):
            if number in numbers:
                frames[number] = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            if number == last:
                break
    return _finish(frames, numbers)


def read_with_opencv(path: Path, numbers: tuple[int, ...]) -> Video:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = {}
    for number in range(max(numbers) + 1):
        assert capture.grab()
        if number in numbers:
            frames[number] = torch.from_numpy(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    return _finish(frames, numbers)


READERS: dict[str, Callable[[Path, tuple[int, ...]], Video]] = {
    "vidact, `decoder: decord` (the default)": read_with_vidact,
    "vidact, `decoder: pyav`": read_with_vidact_and_pyav,
    "decord, sparse: wrong frames": read_sparsely,
    "PyAV": read_with_pyav,
    "OpenCV": read_with_opencv,
}


@pytest.mark.benchmark(
    group="One worker on one core, processor time: the same 16 frames of each clip, to 100x100 gray",
    timer=time.process_time,  # of all threads; what else the machine does plays no part
)
@pytest.mark.parametrize("title", READERS)
@pytest.mark.usefixtures("one_core")
def test_readers(benchmark: Any, clip_windows: list[Window], title: str) -> None:
    chosen = clip_windows[::10]

    def read_all() -> list[Video]:
        return [READERS[title](window.clip.path, window.frame_numbers) for window in chosen]

    benchmark.extra_info.update(title=title, per=len(chosen))
    videos = benchmark.pedantic(read_all, rounds=15, warmup_rounds=2)
    if "wrong" not in title:
        truth = [read_with_vidact(window.clip.path, window.frame_numbers) for window in chosen]
        differences = [(one.int() - other.int()).abs().float().mean() for one, other in zip(videos, truth, strict=True)]
        assert max(differences) < 0.5, "a reader gave other frames"


def _loader(dataset: WindowDataset, *, num_workers: int) -> DataLoader[ClipBatch]:
    return DataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        shuffle=True,
        collate_fn=join,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(0),
    )


@pytest.fixture(scope="module")
def decoded(clip_windows: list[Window], tmp_path_factory: pytest.TempPathFactory) -> DecodedWindows:
    folder = tmp_path_factory.mktemp("decoded")
    return decode_windows(clip_windows, size=SIZE, gray=True, limit_bytes=10**10, folder=folder, num_workers=2)


def _make_loader(source: str, clip_windows: list[Window], decoded: DecodedWindows) -> DataLoader[ClipBatch]:
    if source == "cached":
        return _loader(WindowDataset(clip_windows, size=SIZE, gray=True, decoded=decoded), num_workers=0)
    return _loader(WindowDataset(clip_windows, size=SIZE, gray=True), num_workers=2)


TITLES = {"cached": "from the cache, no workers", "uncached": "from the files, 2 workers"}


@pytest.mark.benchmark(group="An epoch in batches of 100")
@pytest.mark.parametrize("source", TITLES)
def test_epochs(benchmark: Any, clip_windows: list[Window], decoded: DecodedWindows, source: str) -> None:
    loader = _make_loader(source, clip_windows, decoded)
    benchmark.extra_info.update(title=TITLES[source], per=len(clip_windows))
    seen = benchmark.pedantic(lambda: sum(len(batch) for batch in loader), rounds=5, warmup_rounds=1)
    assert seen == len(clip_windows)


@pytest.mark.benchmark(group="Training the 2020 report's network, batches of 100, bf16")
@pytest.mark.parametrize("source", TITLES)
def test_training_steps(benchmark: Any, clip_windows: list[Window], decoded: DecodedWindows, source: str) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = StackedFramesCNN(num_classes=51).to(device)
    optimizer = torch.optim.Adam(network.parameters())
    windows = clip_windows * (BATCH_SIZE * (NUM_STEPS + 6) // len(clip_windows))  # no epoch ends in the middle
    batches = iter(_make_loader(source, windows, decoded))
    waited = []

    def step() -> None:
        start = time.perf_counter()
        batch = next(batches).to(device)
        waited.append(time.perf_counter() - start)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = cross_entropy(network(as_float(batch.video)), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits until the device is done

    benchmark.pedantic(step, rounds=NUM_STEPS, warmup_rounds=2)
    share = sum(waited[-NUM_STEPS:]) / sum(benchmark.stats.stats.data)
    benchmark.extra_info.update(title=TITLES[source], per=BATCH_SIZE, waiting=share)
