import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vidact.core import ConfigError, DataError, EnvironmentProblem
from vidact.data import synthetic
from vidact.data.measuring import measure_video
from vidact.data.synthetic import CLASS_NAMES, Action, SyntheticSettings, load_mask, synthesize
from vidact.data.video import read_frames

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


def render(class_name, *, seed, source=0, size=(64, 64), num_frames=16):
    scene = synthetic.draw_scene(np.random.default_rng([seed, source]), size=size)
    generator = np.random.default_rng([seed, source, CLASS_NAMES.index(class_name)])
    return synthetic.render_clip(class_name, scene=scene, generator=generator, num_frames=num_frames)


def circular_centre(mask, axis):
    """Centre of a mask [H, W] on the torus, in pixels."""
    side = mask.shape[axis]
    weight = mask.sum(axis=1 - axis)
    return np.angle(np.sum(weight * np.exp(2j * np.pi * np.arange(side) / side))) * side / (2 * np.pi)


# --- the same from the same seed


def test_frames_are_bit_identical_from_a_seed_and_others_from_another():
    def digest(seed):
        return [hashlib.sha256(render(name, seed=seed)[0].tobytes()).hexdigest() for name in CLASS_NAMES]

    assert digest(0) == digest(0)
    assert not set(digest(0)) & set(digest(1))


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
    assert sorted(p.name for p in folder.iterdir()) == ["masks", "splits", "synthetic.json", "videos"]
    assert sorted(p.name for p in (folder / "videos").iterdir()) == list(CLASS_NAMES)
    for name in CLASS_NAMES:
        files = sorted(p.name for p in (folder / "videos" / name).iterdir())
        sources = [re.fullmatch(NAME.format(name), file)["source"] for file in files]
        assert sources == ["0000_scene", "0001_scene", "0002_scene", "0003_scene"]
        assert [f"{Path(file).stem}.npz" for file in files] == sorted(
            p.name for p in (folder / "masks" / name).iterdir()
        )


@pytest.mark.parametrize("num_sources", [3, 4, 10])
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
        info = measure_video(path)
        assert (info.num_frames, info.height, info.width, info.fps) == (8, 32, 64, 30)
        scene = synthetic.draw_scene(synthetic._generator(SMALL, 1), size=SMALL.size)
        number = CLASS_NAMES.index(path.parent.name)
        video, mask = synthetic.render_clip(
            path.parent.name, scene=scene, generator=synthetic._generator(SMALL, 1, number, 0), num_frames=8
        )
        decoded = read_frames(path, range(8), size=SMALL.size, gray=False).permute(1, 2, 3, 0).numpy()
        assert np.abs(decoded.astype(float) - video).mean() < 3
        assert np.array_equal(load_mask(folder / "masks" / path.parent.name / f"{path.stem}.npz"), mask)


# --- motion is what the class says


@pytest.mark.parametrize(
    ("class_name", "direction"),
    [(n, {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}.get(n, (0, 0))) for n in CLASS_NAMES],
)
def test_the_masks_centre_moves_as_the_class_says(class_name, direction):
    for source in range(5):
        _, mask = render(class_name, seed=0, source=source, num_frames=40)
        for axis, sign in enumerate(direction):
            centre = np.unwrap([circular_centre(frame, axis) for frame in mask], period=64)
            speed = (centre[-1] - centre[0]) / 39 / 64
            assert 0.0065 < speed * sign < 0.0125 if sign else abs(speed) < 2e-4


def test_the_mask_is_the_disc():
    scene = synthetic.draw_scene(np.random.default_rng(0), size=(64, 96))
    for name in CLASS_NAMES:
        action = synthetic.draw_action(name, generator=np.random.default_rng(1), size=(64, 96), num_frames=40)
        video, mask = synthetic.paint(scene, action)
        assert mask.sum(axis=(1, 2)) == pytest.approx(np.pi * action.radius_pixels**2, rel=0.03)
        still = np.rint(255 * scene.background)
        changed = np.abs(video - still).max(axis=-1) > 0
        # what differs from the background is the disc and its soft edge
        assert not (changed & ~mask).sum(axis=(1, 2)).max() > 2 * np.pi * action.radius_pixels
        assert (changed & mask).sum() > 0.9 * mask.sum()


def texture(monkeypatch, *, angle, log_scale, size=192):
    """The texture alone on a large disc in the middle, two frames."""
    scene = synthetic.Scene(np.full((size, size, 3), 0.5), np.ones(3), spokes=4, rings=4.0)
    centre = np.full((2, 2), size / 2)
    action = Action(0.45 * size, centre, np.array([0, angle]), np.array([0, log_scale]), np.array([1.0, 2.0]))
    painted, _ = synthetic.paint(scene, action)
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "_CONTRAST", 0)
        plain, _ = synthetic.paint(scene, action)
    return (painted.astype(float) - plain)[..., 0]


@pytest.mark.parametrize(("angle", "log_scale"), [(0.3, 0.0), (-0.3, 0.0), (0.0, 0.3), (0.0, -0.3)])
def test_turning_turns_and_growing_grows(monkeypatch, angle, log_scale):
    """Undo the warp: turning must show the first frame's spokes, growing its rings."""
    before, after = texture(monkeypatch, angle=angle, log_scale=log_scale)
    radius, theta = np.meshgrid(np.linspace(36, 58, 23), np.linspace(-np.pi, np.pi, 360), indexing="ij")

    def sample(image, radius, theta):
        rows, columns = 96 + radius * np.sin(theta), 96 + radius * np.cos(theta)
        values = image[np.rint(rows).astype(int), np.rint(columns).astype(int)]
        kept = 1 if angle else 0  # the spokes vary along the angle, the rings along the radius
        return values - values.mean(axis=1, keepdims=True) if kept else values.mean(axis=1)

    first = sample(before, radius, theta)
    undone = sample(after, radius * np.exp(log_scale), theta + angle)
    redone = sample(after, radius * np.exp(-log_scale), theta - angle)
    assert np.abs(undone - first).mean() < 0.15 * np.abs(redone - first).mean()


@pytest.mark.parametrize(
    ("class_name", "angle_sign", "scale_sign"),
    [("clockwise", 1, 0), ("counter_clockwise", -1, 0), ("expand", 0, 1), ("contract", 0, -1), ("left", 0, 0)],
)
def test_classes_turn_and_grow_with_their_sign(class_name, angle_sign, scale_sign):
    action = synthetic.draw_action(class_name, generator=np.random.default_rng(0), size=(64, 64), num_frames=10)
    assert (np.sign(np.diff(action.angle)) == angle_sign).all()
    assert (np.sign(np.diff(action.log_scale)) == scale_sign).all()


# --- a single frame does not tell the class


def test_all_classes_draw_place_size_and_phase_alike():
    actions = [
        synthetic.draw_action(name, generator=np.random.default_rng(5), size=(64, 64), num_frames=9)
        for name in CLASS_NAMES
    ]
    for action in actions[1:]:
        assert action.radius_pixels == actions[0].radius_pixels
        assert np.array_equal(action.centre[0], actions[0].centre[0])
        assert np.array_equal(action.phase, actions[0].phase)


@pytest.fixture(scope="module")
def late_frames():
    """Frame 29 of 1,600 clips, when the motions have gone far: gray [N, 32, 32], class [N]."""
    frames, labels = [], []
    for source in range(200):
        scene = synthetic.draw_scene(np.random.default_rng([3, source]), size=(32, 32))
        for label, name in enumerate(CLASS_NAMES):
            generator = np.random.default_rng([3, source, label])
            action = synthetic.draw_action(name, generator=generator, size=(32, 32), num_frames=30)
            last = {key: getattr(action, key)[-1:] for key in ("centre", "angle", "log_scale")}
            video, _ = synthetic.paint(scene, replace(action, **last))
            frames.append(video[0].mean(axis=-1))
            labels.append(label)
    return np.stack(frames), np.array(labels)


def test_single_frame_statistics_do_not_depend_on_the_class(late_frames):
    frames, labels = late_frames
    statistics = {
        "mean": frames.mean(axis=(1, 2)),
        "deviation": frames.std(axis=(1, 2)),
        "brightest row": frames.max(axis=2).argmax(axis=1),
        "brightest column": frames.max(axis=1).argmax(axis=1),
        "roughness": np.abs(np.diff(frames, axis=2)).mean(axis=(1, 2)),
        "left-right slope": (frames * np.linspace(-1, 1, 32)).mean(axis=(1, 2)),
    }
    p_values = [ks_2samp(v[labels == c], v[labels != c]).pvalue for v in statistics.values() for c in range(8)]
    assert min(p_values) > 0.01 / len(p_values)


def test_a_classifier_of_single_frames_stays_at_chance(late_frames):
    frames, labels = late_frames
    pooled = frames.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64)
    features = np.concatenate([pooled, (pooled - pooled.mean(axis=1, keepdims=True)) ** 2], axis=1)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    classifier.fit(features[:1120], labels[:1120])  # rows are in the order of the sources
    right = (classifier.predict(features[1120:]) == labels[1120:]).sum()
    assert binom.ppf(0.001, 480, 1 / 8) <= right <= binom.ppf(0.999, 480, 1 / 8)


def test_a_stored_frame_does_not_depend_on_the_frames_before_it(tmp_path):
    videos = [render(name, seed=0, num_frames=6)[0] for name in ("left", "expand")]
    videos[1][-1] = videos[0][-1]
    decoded = []
    for name, video in zip("ab", videos, strict=True):
        path = tmp_path / f"{name}.avi"
        synthetic.write_video(path, video, fps=30, options=synthetic._ENCODER_OPTIONS)
        decoded.append(read_frames(path, [5], size=(64, 64), gray=False))
    assert decoded[0].equal(decoded[1])


# --- all or nothing


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    real, written = synthetic.write_video, []

    def fail_at_the_fifth(path, *args, **kwargs):
        written.append(path)
        if len(written) == 5:
            raise RuntimeError("the disc is full")
        real(path, *args, **kwargs)

    monkeypatch.setattr(synthetic, "write_video", fail_at_the_fifth)
    with pytest.raises(RuntimeError, match="the disc is full"):
        synthesize(tmp_path / "set", settings=SMALL)
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
    settings = SyntheticSettings(num_sources=3, num_frames=2, size=(32, 32))
    synthesize(tmp_path / "set", settings=settings)
    next((tmp_path / "set" / "videos").rglob("*.avi")).unlink()
    with pytest.raises(DataError, match="1 files are missing"):
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
    folder = synthetic.default_folder()
    assert folder.parent == Path.home() / ".cache" / "vidact"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert synthetic.default_folder() == Path("/xdg/vidact") / folder.name
    monkeypatch.setenv("VIDACT_CACHE", "/mine")
    assert synthetic.default_folder() == Path("/mine") / folder.name
    assert re.fullmatch(r"synthetic-[0-9a-f]{10}", folder.name)
    assert synthetic.default_folder(SMALL).name != folder.name


@pytest.mark.parametrize(
    "settings",
    [{"num_sources": 2}, {"size": (63, 64)}, {"size": (8, 8)}, {"num_frames": 0}, {"fps": 0}, {"seed": -1}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match="got"):
        SyntheticSettings(**settings)


def test_a_missing_or_damaged_mask_is_a_data_error(tmp_path):
    path = tmp_path / "mask.npz"
    for content in (None, b"", b"garbage", b"PK\x03\x04 cut"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match="not a mask"):
            load_mask(path)
