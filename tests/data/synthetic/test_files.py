import json
import re
from pathlib import Path

import numpy as np
import pytest

from vidact.core.errors import ConfigError, DataError, EnvironmentProblem
from vidact.data.checks.file_inspection import inspect_video
from vidact.data.synthetic import files as synthetic_files
from vidact.data.synthetic.clips import MASK_KINDS, SyntheticSettings, render_clip
from vidact.data.synthetic.files import load_mask, synthesize
from vidact.data.synthetic.motions import CLASS_NAMES
from vidact.data.video.reading import read_frames

SMALL = SyntheticSettings(num_sources=4, num_frames=8, size=(32, 64))
# facts about HMDB51: the tags of a file name
NAME = r"(?P<source>.*)_{}_(?P<visible>[fhlu])_(?P<camera>cm|nm)_np(?P<people>\d+)_(?P<view>fr|ba|le|ri)_"
NAME += r"(?P<quality>bad|med|goo)_(?P<index>\d+)\.avi"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("rendered") / "set"
    synthesize(out, settings=SMALL)
    return out


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- the same from the same seed


def test_two_sets_have_the_same_bytes_and_another_seed_has_others(folder, tmp_path):
    synthesize(tmp_path / "again", settings=SMALL)
    assert contents(tmp_path / "again") == contents(folder)
    synthesize(tmp_path / "other", settings=SyntheticSettings(4, num_frames=8, size=(32, 64), seed=1))
    other = contents(tmp_path / "other")
    assert not any(other[path] == data for path, data in contents(folder).items() if path.suffix == ".avi")


def test_a_clip_does_not_depend_on_how_many_others_there_are(folder, tmp_path):
    more = SyntheticSettings(5, clips_per_class_and_source=2, num_frames=8, size=(32, 64))
    synthesize(tmp_path / "more", settings=more)
    larger = contents(tmp_path / "more")
    assert all(larger[path] == data for path, data in contents(folder).items() if path.suffix in {".avi", ".npz"})


# --- layout


def test_layout_and_names_are_those_of_hmdb51(folder):
    assert list(CLASS_NAMES) == sorted(CLASS_NAMES)
    assert sorted(p.name for p in folder.iterdir()) == ["masks", "splits", "synthetic.json", "truth", "videos"]
    assert sorted(p.name for p in (folder / "videos").iterdir()) == list(CLASS_NAMES)
    for name in CLASS_NAMES:
        files = sorted(p.name for p in (folder / "videos" / name).iterdir())
        sources = [re.fullmatch(NAME.format(name), file)["source"] for file in files]
        assert sources == ["0000_scene", "0001_scene", "0002_scene", "0003_scene"]
        assert [f"{Path(file).stem}.npz" for file in files] == sorted(
            p.name for p in (folder / "masks" / name).iterdir()
        )


@pytest.mark.parametrize("num_sources", [3, 10])
def test_splits_cover_all_clips_and_share_no_source(tmp_path, num_sources):
    synthesize(tmp_path / "set", settings=SyntheticSettings(num_sources, num_frames=2, size=(32, 32)))
    tested = []
    for split in (1, 2, 3):
        sides = {"1": set(), "2": set()}
        for name in CLASS_NAMES:
            text = (tmp_path / "set" / "splits" / f"{name}_test_split{split}.txt").read_text()
            lines = text.splitlines(keepends=True)
            assert all(re.fullmatch(r"\S+\.avi [12] \n", line) for line in lines)
            files = [line.split()[0] for line in lines]
            assert files == sorted(p.name for p in (tmp_path / "set" / "videos" / name).iterdir())
            for line in lines:
                file, flag = line.split()
                sides[flag].add(re.fullmatch(NAME.format(name), file)["source"])
        assert not sides["1"] & sides["2"]
        assert len(sides["2"]) == max(1, int(0.3 * num_sources))
        tested.append(sides["2"])
    assert len(set.union(*tested)) == sum(len(sources) for sources in tested)


def test_files_decode_to_what_was_rendered(folder):
    for path in sorted((folder / "videos").rglob("0001_scene_*.avi")):
        name = path.parent.name
        info = inspect_video(path)
        assert (info.num_frames, info.height, info.width, info.fps) == (8, 32, 64, 30)
        clip = render_clip(name, source=1, settings=SMALL)
        decoded = read_frames(path, range(8), size=SMALL.size, gray=False).permute(1, 2, 3, 0).numpy()
        assert np.abs(decoded.astype(float) - clip.video).mean() < 3
        for kind in MASK_KINDS:
            stored = load_mask(folder / "masks" / name / f"{path.stem}.npz", kind)
            assert np.array_equal(stored, clip.masks[kind])
        assert json.loads((folder / "truth" / name / f"{path.stem}.json").read_text()) == clip.truth


def test_a_confounders_clips_lie_beside_those_without_it(tmp_path):
    settings = SyntheticSettings(num_sources=3, num_frames=4, size=(32, 32), confounder="patch")
    synthesize(tmp_path / "set", settings=settings)
    for name in CLASS_NAMES:
        for path in (tmp_path / "set" / "videos" / name).iterdir():
            twin = tmp_path / "set" / "without_confounder" / name / path.name
            mask = load_mask(tmp_path / "set" / "masks" / name / f"{path.stem}.npz", "confounder")
            both = [
                read_frames(file, range(4), size=(32, 32), gray=True)[0].numpy().astype(int) for file in (path, twin)
            ]
            changed = np.abs(both[0] - both[1]) > 24
            assert mask.any()
            assert (changed & mask).sum() > 0.5 * mask.sum()
            assert not (changed & ~mask)[:, 16:, 16:].any()


def test_a_stored_frame_does_not_depend_on_the_frames_before_it(tmp_path):
    videos = [render_clip(name, settings=SyntheticSettings(num_frames=6)).video for name in ("left", "expand")]
    videos[1][-1] = videos[0][-1]
    decoded = []
    for name, video in zip("ab", videos, strict=True):
        path = tmp_path / f"{name}.avi"
        synthetic_files.write_video(path, video, fps=30, options=synthetic_files._ENCODER_OPTIONS)
        decoded.append(read_frames(path, [5], size=(64, 64), gray=False))
    assert decoded[0].equal(decoded[1])


# --- all or nothing


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    real, written = synthetic_files.write_video, []

    def fail_at_the_fifth(path, *args, **kwargs):
        written.append(path)
        if len(written) == 5:
            raise RuntimeError("the disc is full")
        real(path, *args, **kwargs)

    monkeypatch.setattr(synthetic_files, "write_video", fail_at_the_fifth)
    with pytest.raises(RuntimeError, match="the disc is full"):
        synthesize(tmp_path / "set", settings=SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_cannot_be_read_back_is_named_and_nothing_is_left(tmp_path):
    with pytest.raises(ConfigError, match=r"size \[16, 16\]: videos of this size cannot be read back; try multiples"):
        synthesize(tmp_path / "set", settings=SyntheticSettings(num_sources=3, num_frames=2, size=(16, 16)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mark", [None, "not JSON", '{"format_version": 0}'])
def test_a_foreign_folder_is_refused_and_kept(tmp_path, mark):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    if mark is not None:
        (out / "synthetic.json").write_text(mark)
    before = contents(out)
    with pytest.raises(DataError, match="choose another folder") as caught:
        synthesize(out, settings=SMALL)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == {Path("mine") / path: data for path, data in before.items()}


def test_a_file_in_the_folders_place_is_refused_and_kept(tmp_path):
    (tmp_path / "set").write_text("mine")
    with pytest.raises(DataError, match="choose another folder"):
        synthesize(tmp_path / "set", settings=SMALL)
    assert (tmp_path / "set").read_text() == "mine"


def test_a_complete_set_is_left_alone_and_other_settings_are_refused(folder):
    def times():
        return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}

    before = times()
    calls = []
    synthesize(folder, settings=SMALL, progress=lambda *numbers: calls.append(numbers))
    assert times() == before
    assert not calls
    with pytest.raises(DataError, match="a set with other settings"):
        synthesize(folder, settings=SyntheticSettings(num_sources=5))
    assert times() == before
    assert json.loads((folder / "synthetic.json").read_text())["size"] == [32, 64]


def test_a_set_with_missing_files_is_refused(tmp_path):
    settings = SyntheticSettings(num_sources=3, num_frames=2, size=(32, 32), confounder="patch")
    synthesize(tmp_path / "set", settings=settings)
    for number, part in enumerate(("videos", "masks", "truth", "without_confounder"), start=1):
        next((tmp_path / "set" / part).rglob("*_scene_*")).unlink()
        with pytest.raises(DataError, match=f"{number} files are missing"):
            synthesize(tmp_path / "set", settings=settings)


def test_the_slower_of_two_processes_accepts_the_others_result(tmp_path):
    settings = SyntheticSettings(num_sources=3, num_frames=2, size=(32, 32))
    out = tmp_path / "new" / "set"
    progress, winner = [], []

    def other_process_finishes_first(done, total):
        progress.append((done, total))
        if done == total:
            synthesize(out, settings=settings)
            winner.append(out.stat().st_ino)

    synthesize(out, settings=settings, progress=other_process_finishes_first)
    assert progress == [(number, 24) for number in range(1, 25)]
    assert out.stat().st_ino == winner[0]
    assert list(out.parent.iterdir()) == [out]


def test_an_empty_folder_is_filled_and_the_result_is_as_readable_as_any_new_folder(tmp_path):
    out, plain = tmp_path / "set", tmp_path / "plain"
    out.mkdir()
    plain.mkdir()
    synthesize(out, settings=SyntheticSettings(num_sources=3, num_frames=1, size=(32, 32)))
    assert len(list(out.rglob("*.avi"))) == 24
    assert out.stat().st_mode == plain.stat().st_mode


def test_a_place_that_cannot_be_written_is_a_problem_of_the_machine(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        synthesize(tmp_path / "file" / "set", settings=SMALL)


# --- small things


def test_the_default_folder_follows_the_environment(monkeypatch):
    for variable in ("VIDACT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    folder = synthetic_files.default_folder()
    assert folder.parent == Path.home() / ".cache" / "vidact"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert synthetic_files.default_folder() == Path("/xdg/vidact") / folder.name
    monkeypatch.setenv("VIDACT_CACHE", "/mine")
    assert synthetic_files.default_folder() == Path("/mine") / folder.name
    assert re.fullmatch(r"synthetic-[0-9a-f]{10}", folder.name)
    assert synthetic_files.default_folder(SMALL).name != folder.name


def test_a_missing_or_damaged_mask_is_a_data_error(tmp_path):
    path = tmp_path / "mask.npz"
    for content in (None, b"", b"garbage", b"PK\x03\x04 cut"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match="not a mask"):
            load_mask(path)


def test_a_kind_of_mask_that_is_not_there_is_named(folder):
    path = next((folder / "masks").rglob("*.npz"))
    with pytest.raises(DataError, match="holds no mask 'person'; there are strict, swept, always"):
        load_mask(path, "person")
