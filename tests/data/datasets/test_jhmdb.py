import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from vidact.core.errors import DataError
from vidact.data.datasets.hmdb51 import TEST, TRAINING, read_official_split
from vidact.data.datasets.index import index_clips
from vidact.data.datasets.jhmdb import puppet_mask_places, read_puppet_mask
from vidact.data.splits.files import find_official_folder
from vidact.data.video.reading import open_container


def _decoded_frames(path: Path) -> int:
    with open_container(path) as container:
        return sum(1 for _ in container.decode(video=0))


def _sample(jhmdb: Path) -> list[tuple[Path, Path]]:
    """Every eighth clip and its mask."""
    folder = jhmdb / "puppet_mask"
    return [(clip.path, puppet_mask_places(folder, clip.clip_id)[0]) for clip in index_clips(jhmdb)[::8]]


def test_a_real_mask_has_a_picture_for_each_decoded_frame(jhmdb: Path) -> None:
    """The headers of nearly all these clips claim more frames than there are; the masks know better."""
    for clip, path in _sample(jhmdb):
        assert read_puppet_mask(path).shape == (_decoded_frames(clip), 240, 320)


def test_a_real_mask_is_what_the_file_says_pixel_by_pixel(jhmdb: Path) -> None:
    for _, path in _sample(jhmdb):
        mask, stored = read_puppet_mask(path), loadmat(path)["part_mask"]
        assert mask.dtype == bool
        for frame in range(stored.shape[2]):
            assert (mask[frame] == (stored[:, :, frame] == 1)).all()


def test_actors_fill_the_frame_as_their_actions_suggest(jhmdb: Path) -> None:
    """Who waves is filmed from near, who jumps or runs from far; in all, actors cover about a tenth of the frame."""
    shares: dict[str, list[float]] = {}
    for _, path in _sample(jhmdb):
        shares.setdefault(path.parent.name, []).append(float(read_puppet_mask(path).mean()))
    means = {name: float(np.mean(values)) for name, values in shares.items()}
    assert means["wave"] > 2 * max(means["jump"], means["run"])
    assert 0.05 < np.mean([value for values in shares.values() for value in values]) < 0.15


def test_jhmdb_is_a_data_set_of_its_own(jhmdb: Path) -> None:
    clips = [clip for clip in index_clips(jhmdb) if clip.class_name in {"jump", "wave"}]
    assert all(clip.tags is not None for clip in clips)
    flags = read_official_split(find_official_folder(jhmdb), fold=1, class_names=["jump", "wave"])
    assert set(flags) == {clip.clip_id for clip in clips}
    assert set(flags.values()) == {TRAINING, TEST}


@pytest.fixture
def write_mat(tmp_path: Path) -> Callable[..., Path]:
    def write(**content: Any) -> Path:
        path = tmp_path / "mask.mat"
        savemat(path, content, do_compression=True)
        return path

    return write


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float64])
def test_frames_come_first_whatever_type_the_numbers_have(write_mat: Callable[..., Path], dtype: type) -> None:
    stored = np.random.default_rng(0).integers(0, 2, (4, 6, 3)).astype(dtype)
    mask = read_puppet_mask(write_mat(part_mask=stored))
    assert mask.dtype == bool
    assert mask.tolist() == [[[bool(stored[y, x, t]) for x in range(6)] for y in range(4)] for t in range(3)]


def test_one_frame_may_come_without_its_dimension(write_mat: Callable[..., Path]) -> None:
    assert read_puppet_mask(write_mat(part_mask=np.ones((4, 6), np.uint8))).shape == (1, 4, 6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"mask": np.ones((2, 2, 2))}, "an array of numbers called 'part_mask'; it holds none"),
        ({"part_mask": "text"}, "an array of numbers called 'part_mask'; it holds none"),
        ({"part_mask": {"a": 1}}, "an array of numbers called 'part_mask'; it holds none"),
        ({"part_mask": np.ones((2, 2, 2, 2))}, r"shape height × width × frames, got \(2, 2, 2, 2\)"),
        ({"part_mask": np.ones((2, 2, 0))}, "shape height × width × frames"),
        ({"part_mask": np.full((2, 2, 2), 255)}, "0 or 1 everywhere, got 255 to 255"),
        ({"part_mask": np.full((2, 2, 2), np.nan)}, "0 or 1 everywhere"),
    ],
)
def test_another_content_is_reported_in_one_line(
    write_mat: Callable[..., Path], content: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_puppet_mask(write_mat(**content))
    assert "\n" not in str(caught.value)
    assert "mask.mat" in str(caught.value)


def test_a_missing_and_an_empty_mask_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "mask.mat"
    with pytest.raises(DataError, match=r"mask\.mat: no such file"):
        read_puppet_mask(path)
    path.touch()
    with pytest.raises(DataError, match="the file is empty"):
        read_puppet_mask(path)


def test_matlab_7_3_is_refused_with_what_to_do(write_mat: Callable[..., Path]) -> None:
    path = write_mat(part_mask=np.ones((2, 2, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[124:128] = b"\x00\x02IM"  # version 2.0, little-endian: what MATLAB writes before the HDF5
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"MATLAB version 7\.3 \(HDF5\), which is not read; .* '-v7'"):
        read_puppet_mask(path)


def test_cut_damaged_and_foreign_files_are_reported_in_one_line(write_mat: Callable[..., Path]) -> None:
    """150 files; zlib's checksum sees every flipped bit of the array."""
    generator = random.Random(0)
    path = write_mat(part_mask=np.random.default_rng(0).integers(0, 2, (24, 32, 6)).astype(np.uint8))
    whole = path.read_bytes()
    for number in range(50):
        flipped = bytearray(whole)
        flipped[generator.randrange(136, len(whole))] ^= 1 << generator.randrange(8)
        for content in (bytes(flipped), whole[: generator.randrange(1, len(whole))], generator.randbytes(number + 1)):
            path.write_bytes(content)
            with pytest.raises(DataError, match="not a .mat file, or damaged") as caught:
                read_puppet_mask(path)
            assert "\n" not in str(caught.value)
