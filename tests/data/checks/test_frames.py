from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidact.core.errors import DataError
from vidact.data.checks import frames as frame_check
from vidact.data.checks.frames import check_clip, check_frames, is_frame, sampling_schemes
from vidact.data.datasets.index import Clip, index_clips
from vidact.data.video.reading import read_frames

WriteClip = Callable[..., Path]


@pytest.fixture
def clips(tmp_path: Path, write_clip: WriteClip) -> list[Clip]:
    """Without, with one and with two B-frames: the first is right however it is read."""
    paths = [write_clip(tmp_path / "set" / "wave" / f"{bf}.avi", 30, options={"bf": str(bf)}) for bf in range(3)]
    return [Clip(path, "wave", 0, path.stem, None) for path in paths]


@given(num_frames=st.integers(1, 300))
def test_schemes_ask_for_frames_that_exist_and_for_the_last(num_frames: int) -> None:
    schemes = list(sampling_schemes(num_frames))
    assert {0, num_frames - 1} <= {number for scheme in schemes for number in scheme}
    assert all(0 <= number < num_frames for scheme in schemes for number in scheme)
    assert (num_frames - 1,) in schemes


def test_the_check_passes_and_says_what_sparse_reads_give(clips: list[Clip]) -> None:
    steps: list[tuple[int, int]] = []
    result = check_frames(clips, progress=lambda done, total: steps.append((done, total)), num_threads=2)
    assert result.passed
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert result.clips[0].sparse.num_wrong == 0
    compared = sum(len(scheme) for scheme in sampling_schemes(30))
    assert [check.num_compared for check in result.clips] == [compared] * 3
    by_class, everything = result.rows()
    assert by_class[:4] == ("wave", "3", str(3 * compared), "0")
    assert everything[1:] == by_class[1:]


def test_a_reader_that_is_one_early_is_found_out(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    def early(path: Path, numbers: Sequence[int], **settings: Any) -> torch.Tensor:
        return read_frames(path, [max(number - 1, 0) for number in numbers], **settings)

    monkeypatch.setattr(frame_check, "read_frames", early)
    result = check_frames(clips[:1])
    assert not result.passed
    check = result.clips[0]
    asked = [number for scheme in sampling_schemes(30) for number in scheme]
    assert check.vidact.num_wrong == sum(number > 0 for number in asked)
    assert check.vidact.furthest == 1
    assert f"WRONG: wave/0: {check.vidact.num_wrong} of {check.num_compared}" in result.text()


def test_a_reader_that_fails_has_everything_wrong(clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> torch.Tensor:
        raise DataError("no")

    monkeypatch.setattr(frame_check, "read_frames", fail)
    check = check_clip(clips[0])
    assert check.vidact.num_wrong == check.num_compared > 0


def test_what_cannot_be_decoded_is_named_and_counts_for_nothing(clips: list[Clip]) -> None:
    clips[1].path.write_text("not a video")
    clips[2].path.write_bytes(b"")
    result = check_frames(clips)
    assert result.passed
    assert result.rows()[-1][1] == "1"
    assert f"not compared: wave/1: {clips[1].path}: PyAV cannot decode it" in result.text()
    assert "the file is empty" in result.text()


def test_the_table_is_markdown(clips: list[Clip]) -> None:
    lines = check_frames(clips[:1]).markdown().splitlines()
    assert [line.count("|") for line in lines] == [8] * 4
    assert lines[0].startswith("| class | clips | frames | wrong, vidact | wrong, sparse |")


def test_a_frame_is_distinguished_from_its_neighbours() -> None:
    """Rounding is forgiven, by up to two grey levels here; a neighbour that differs by less than that is not."""
    generator = np.random.default_rng(0)
    first = generator.integers(50, 200, (32, 32, 3), dtype=np.uint8)
    second = first.copy()
    second[0, :8] += 1
    truth = np.stack([first, second, second, first])
    rounded = first.copy()
    rounded[5, :3] += 2
    assert is_frame(first, 0, truth=truth)
    assert is_frame(rounded, 0, truth=truth)
    assert not is_frame(rounded, 1, truth=truth)
    assert not is_frame(first, 1, truth=truth)
    assert is_frame(second, 1, truth=truth)
    assert is_frame(second, 2, truth=truth), "frames 1 and 2 are the same picture"
    assert not is_frame(first[:16], 0, truth=truth)


def test_every_way_of_asking_a_real_clip_gives_the_right_frames(hmdb51: Path, jhmdb: Path) -> None:
    """A few clips here; `python -m vidact data frames ROOT` checks them all."""
    clips = [*index_clips(hmdb51)[::248], *index_clips(jhmdb)[::80]]
    result = check_frames(clips)
    assert result.passed
    b_frames = [check for check in result.clips if check.clip.path.is_relative_to(hmdb51)]
    assert all(check.sparse.num_wrong for check in b_frames), "sparse reads of HMDB51 got better: say so in the docs"
