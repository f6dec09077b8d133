from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat

from vidact.core.errors import DataError
from vidact.data.checks.file_inspection import inspect_video
from vidact.data.datasets.index import index_clips
from vidact.data.loading.masks import MaskFolder, _check, _resize, find_masks
from vidact.data.synthetic.clips import MASK_KINDS
from vidact.data.synthetic.files import load_mask
from vidact.data.video.reading import read_frames, write_video


def _write(path: Path, mask: np.ndarray) -> None:
    """Write a mask [T, H, W] in the manner of the file's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        packed = dict.fromkeys(MASK_KINDS, np.packbits(mask.astype(bool)))
        np.savez_compressed(path, shape=np.array(mask.shape), **packed)
    else:
        savemat(path, {"part_mask": np.moveaxis(mask, 0, 2).astype(np.uint8)})


def _random(num_frames: int = 5, size: tuple[int, int] = (8, 12)) -> np.ndarray:
    return np.random.default_rng(0).random((num_frames, *size)) < 0.4


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("{}.mat", "a_run_f_cm_np1_ba_med_0"),
        ("{}/puppet_mask.mat", "-x [1] #c;d&.v2"),
        ("{}.npz", "日本 ü!"),
        ("{}.mat", "x" * 120),
    ],
)
def test_each_layout_is_found_under_any_name(tmp_path: Path, name: str, stem: str) -> None:
    _write(tmp_path / "run" / name.format(stem), _random())
    masks = MaskFolder(tmp_path)
    assert masks.find(f"run/{stem}") is not None
    assert masks.find("run/other") is None
    found = masks.read(f"run/{stem}", range(5), clip_frames=5, size=(8, 12))
    assert found.dtype == torch.bool
    assert (found.numpy() == _random()).all()


def test_frames_come_in_the_order_asked_for_with_repeats(tmp_path: Path) -> None:
    _write(tmp_path / "run" / "a.npz", _random())
    found = MaskFolder(tmp_path).read("run/a", (4, 0, 0, 2), clip_frames=5, size=(8, 12))
    assert (found.numpy() == _random()[[4, 0, 0, 2]]).all()


def test_real_masks_are_found_and_read_at_full_size(jhmdb: Path) -> None:
    folder = find_masks(jhmdb)
    assert folder == jhmdb / "puppet_mask"
    for clip in index_clips(jhmdb)[::20]:
        stored = loadmat(folder / f"{clip.clip_id}.mat")["part_mask"]
        numbers = [stored.shape[2] - 1, 3, 3, 0]
        found = MaskFolder(folder).read(clip.clip_id, numbers, clip_frames=stored.shape[2], size=(240, 320))
        assert (found.numpy() == np.stack([stored[:, :, number] for number in numbers])).all()


def test_a_smaller_mask_covers_the_same_share_of_the_frame(jhmdb: Path) -> None:
    folder = jhmdb / "puppet_mask"
    for clip in index_clips(jhmdb)[::20]:
        stored = loadmat(folder / f"{clip.clip_id}.mat")["part_mask"]
        found = MaskFolder(folder).read(clip.clip_id, range(10), clip_frames=stored.shape[2], size=(100, 112))
        assert found.float().mean().item() == pytest.approx(stored[:, :, :10].mean(), rel=0.04)


def test_the_synthetic_sets_masks_are_found_and_read(small_set: Path) -> None:
    folder = find_masks(small_set)
    assert folder == small_set / "masks"
    for clip in index_clips(small_set)[::17]:
        path = folder / f"{clip.clip_id}.npz"
        assert MaskFolder(folder).kinds(clip.clip_id) == MASK_KINDS
        for kind in (None, *MASK_KINDS):
            found = MaskFolder(folder).read(clip.clip_id, range(20), clip_frames=20, size=(32, 32), kind=kind)
            assert (found.numpy() == load_mask(path, kind or "strict")).all()


def test_kinds_of_masks_are_named_and_others_refused(tmp_path: Path) -> None:
    _write(tmp_path / "run" / "a.mat", _random())
    masks = MaskFolder(tmp_path)
    assert masks.kinds("run/a") == ("actor",)
    assert masks.kinds("run/b") == ()
    same = [masks.read("run/a", [1], clip_frames=5, size=(8, 12), kind=kind) for kind in (None, "actor")]
    assert same[0].equal(same[1])
    with pytest.raises(DataError, match=r"a\.mat: holds no mask 'strict'; there are actor"):
        masks.read("run/a", [1], clip_frames=5, size=(8, 12), kind="strict")


def _write_frames(folder: Path, mask: np.ndarray, mode: str) -> None:
    """Write each frame as 0.png, 1.png, … 10.png: as text, the last would come after the second."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(mask):
        gray = Image.fromarray((3 * frame).astype(np.uint8))  # a label, as in sets with several people
        (gray if mode == "L" else gray.convert(mode)).save(folder / f"{number}.png")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_png_frames_are_read_in_their_order(tmp_path: Path, mode: str) -> None:
    mask = _random(12)
    _write_frames(tmp_path / "run" / "a", mask, mode)
    masks = MaskFolder(tmp_path)
    assert masks.kinds("run/a") == ("actor",)
    assert (masks.read("run/a", range(12), clip_frames=12, size=(8, 12)).numpy() == mask).all()
    before = masks.digest("run/a")
    _write_frames(tmp_path / "run" / "a", ~mask, mode)
    assert masks.digest("run/a") != before


@pytest.mark.parametrize("first", [(0, 0, 0), (255, 255, 255)])
def test_of_a_palette_the_number_of_the_colour_counts(tmp_path: Path, first: tuple[int, int, int]) -> None:
    """As in DAVIS and VOC, where labels are numbers and colours are for people alone."""
    mask = _random()
    (tmp_path / "run" / "a").mkdir(parents=True)
    for number, frame in enumerate(mask):
        picture = Image.fromarray(frame.astype(np.uint8))
        picture.putpalette([*first, 0, 0, 0])
        assert picture.mode == "P"
        picture.save(tmp_path / "run" / "a" / f"{number}.png")
    assert (MaskFolder(tmp_path).read("run/a", range(5), clip_frames=5, size=(8, 12)).numpy() == mask).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_plain_arrays_are_read_by_their_names(tmp_path: Path, dtype: type) -> None:
    person, ball = _random(), ~_random()
    (tmp_path / "run").mkdir()
    np.savez(tmp_path / "run" / "a.npz", person=person.astype(dtype), ball=2 * ball.astype(dtype))
    masks = MaskFolder(tmp_path)
    assert masks.kinds("run/a") == ("person", "ball")
    for kind, own in ((None, person), ("person", person), ("ball", ball)):
        assert (masks.read("run/a", range(5), clip_frames=5, size=(8, 12), kind=kind).numpy() == own).all()


def test_wrong_masks_of_ones_own_are_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    masks = MaskFolder(tmp_path)

    def refusal(name: str) -> str:
        with pytest.raises(DataError) as caught:
            masks.read(f"run/{name}", range(5), clip_frames=5, size=(8, 12))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    np.savez(tmp_path / "run" / "shares.npz", person=np.full((5, 8, 12), 0.3))
    assert "holds float64; expected bool or whole numbers" in refusal("shares")
    np.savez(tmp_path / "run" / "flat.npz", person=np.ones((8, 12), bool))
    assert "expected a mask of shape frames × height × width, got (8, 12)" in refusal("flat")
    np.savez(tmp_path / "run" / "objects.npz", person=np.array([None]))
    assert "not an .npz of masks" in refusal("objects")
    (tmp_path / "run" / "text.npz").write_text("no mask")
    assert "text.npz: not an .npz of masks" in refusal("text")
    np.savez(tmp_path / "run" / "empty.npz")
    assert "holds no mask 'actor'" in refusal("empty")
    _write_frames(tmp_path / "run" / "short", _random(4), "L")
    assert "the mask has 4 frames and the clip has 5" in refusal("short")
    _write_frames(tmp_path / "run" / "broken", _random(), "L")
    (tmp_path / "run" / "broken" / "3.png").write_bytes(b"no picture")
    assert "3.png: not a PNG" in refusal("broken")
    _write_frames(tmp_path / "run" / "sizes", _random(), "L")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "run" / "sizes" / "4.png")
    assert "expected PNG frames of one size" in refusal("sizes")


def test_a_mask_lies_on_its_actor_after_the_frames_resizing(tmp_path: Path) -> None:
    """A white box on black and its mask, squeezed alike: the mask is where the pixels are brighter than half."""
    mask = np.zeros((3, 96, 128), bool)
    for frame in range(3):
        mask[frame, 20 + 10 * frame : 61 + 10 * frame, 33:90] = True
    _write(tmp_path / "run" / "box.npz", mask)
    path = tmp_path / "box.avi"
    write_video(path, 255 * np.repeat(mask[..., None], 3, axis=3).astype(np.uint8), fps=30, options={"qmax": "2"})
    for size in ((32, 32), (40, 57), (96, 128)):
        pixels = read_frames(path, [2, 0], size=size, gray=True)[0]
        found = MaskFolder(tmp_path).read("run/box", [2, 0], clip_frames=3, size=size)
        clear = (pixels < 96) | (pixels > 160)
        assert (found == (pixels > 127))[clear].all()
        assert clear.float().mean() > 0.9


def _triangle_weights(old: int, new: int) -> np.ndarray:
    """How much each old pixel gives to each new one: a triangle two new pixels wide, or two old ones if wider."""
    factor = old / new
    centres = (np.arange(new) + 0.5) * factor
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(factor, 1)
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(*(st.integers(2, 40) for _ in range(4)), st.integers(0, 9))
def test_a_pixel_is_the_actors_where_half_of_its_light_came_from_it(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((3, height, width)) < 0.5
    share = _triangle_weights(height, rows) @ mask.astype(float) @ _triangle_weights(width, columns).T
    found = _resize(torch.from_numpy(mask), (rows, columns))
    clear = np.abs(share - 0.5) > 1e-4
    assert found.shape == (3, rows, columns)
    assert (found.numpy() == (share >= 0.5))[clear].all()


@pytest.mark.parametrize("clip_frames", [4, 78])
def test_a_mask_of_another_length_is_not_laid_on_the_clip(tmp_path: Path, clip_frames: int) -> None:
    """As where HMDB51's longer clip and J-HMDB's cut of it bear one name."""
    _write(tmp_path / "run" / "a.mat", _random())
    with pytest.raises(DataError, match=f"has 5 frames and the clip has {clip_frames}; it belongs to another video"):
        MaskFolder(tmp_path).read("run/a", [0], clip_frames=clip_frames, size=(8, 12))


def test_jhmdb_masks_are_refused_for_hmdb51_clips_of_the_same_name(hmdb51: Path, jhmdb: Path) -> None:
    masks = MaskFolder(jhmdb / "puppet_mask")
    shared = [clip for clip in index_clips(hmdb51, classes=["run"]) if masks.find(clip.clip_id)]
    assert shared
    for clip in shared[::6]:
        length = inspect_video(clip.path).num_frames
        with pytest.raises(DataError, match=f"and the clip has {length}"):
            masks.read(clip.clip_id, [0], clip_frames=length, size=(32, 32))


@pytest.mark.parametrize("number", [-1, 5])
def test_a_frame_that_the_mask_does_not_have_is_named(tmp_path: Path, number: int) -> None:
    _write(tmp_path / "run" / "a.mat", _random())
    with pytest.raises(DataError, match=f"frame {number} was requested, the mask has frames 0 to 4"):
        MaskFolder(tmp_path).read("run/a", [0, number], clip_frames=5, size=(8, 12))


def test_a_clip_without_a_mask_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run/a: has no mask in .*; remove the clip"):
        MaskFolder(tmp_path).read("run/a", [0], clip_frames=5, size=(8, 12))


def test_a_mask_of_another_shape_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.npz: expected .* frames × height × width, got \(4, 4\)"):
        _check(np.ones((4, 4), bool), [0], clip_frames=4, path=tmp_path / "a.npz")


def test_masks_are_found_inside_and_beside_and_may_be_missing(tmp_path: Path) -> None:
    root = tmp_path / "set" / "videos"
    root.mkdir(parents=True)
    assert find_masks(root) is None
    (root.parent / "puppet_mask").mkdir()
    assert find_masks(root) == root.parent / "puppet_mask"
    assert find_masks(root.parent) == root.parent / "puppet_mask"
    (root.parent / "masks").touch()  # a file is no folder of masks
    assert find_masks(root) == root.parent / "puppet_mask"
