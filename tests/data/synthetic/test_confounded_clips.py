import hashlib
import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, chi2_contingency

from vidact.core.errors import ConfigError
from vidact.data.synthetic.clips import PRESETS, SyntheticSettings, render_clip
from vidact.data.synthetic.confounders import KINDS, NUM_CODES, PAINTED, draw_backdrop, plant
from vidact.data.synthetic.motions import CLASS_NAMES

NEW = ("plate", "dark", "shot", "cut", "drift", "size")


def confounded(kind, **changed):
    return replace(PRESETS["clever-hans"], confounder=kind, size=(48, 48), **changed)


@pytest.mark.parametrize(
    ("preset", "stored"),
    [("demo", "92aa0e15fa6f9beb"), ("motion", "59f54e79b4d802f1"), ("clever-hans", "fa9945a191324662")],
)
def test_sets_that_exist_keep_their_settings_and_random_streams(preset, stored):
    """Stored hashes of what is drawn, rounded: the pixels follow from it."""

    def short(number):
        return f"{float(number):.4f}"

    settings = PRESETS[preset]
    clips = [render_clip(name, source=source, settings=settings) for source in range(3) for name in ("left", "expand")]
    drawn = json.loads(json.dumps([settings.record(), *(clip.truth for clip in clips)]), parse_float=short)
    assert hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16] == stored


# --- all else is equal


@pytest.mark.parametrize("kind", KINDS)
def test_the_clip_without_its_sign_has_no_trace_of_the_code(kind):
    for name in ("left", "expand"):
        clips = [render_clip(name, source=3, settings=confounded(kind), code=code) for code in range(NUM_CODES)]
        assert [clip.truth["confounder"]["class"] for clip in clips] == list(CLASS_NAMES)
        assert len({clip.without_confounder.tobytes() for clip in clips}) == 1
        assert len({clip.video.tobytes() for clip in clips}) == NUM_CODES


@pytest.mark.parametrize("kind", NEW)
def test_pixels_differ_only_on_the_mask(kind):
    for code, name in enumerate(CLASS_NAMES):
        clip = render_clip(name, source=code, settings=confounded(kind), code=(3 * code) % NUM_CODES)
        sign, discs = clip.masks["confounder"], clip.masks["all_objects"]
        differs = (clip.video != clip.without_confounder).any(axis=-1)
        assert sign.any()
        if kind in ("dark", "drift"):  # both change the discs, where an action is looked for all the same
            assert np.array_equal(sign, ~discs)
            assert differs[sign].mean() > 0.8
        else:
            assert not (differs & ~sign).any()
        if kind == "size":
            assert not (clip.masks["always"] & ~sign).any()
            assert not (sign & ~differs & ~clip.masks["always"]).any()
        else:
            assert not any((sign & mask).any() for objects, mask in clip.masks.items() if objects != "confounder")


@pytest.mark.parametrize("kind", ["plate", "dark"])
def test_a_painted_sign_leaves_everything_else_of_the_set_as_it_was(kind):
    plain = SyntheticSettings(size=(48, 64), walkers=1, drift=0.01, cut_probability=0.5)
    for name in CLASS_NAMES:
        alone = render_clip(name, source=2, settings=plain)
        signed = render_clip(name, source=2, settings=replace(plain, confounder=kind))
        assert np.array_equal(signed.without_confounder, alone.video)
        assert all(np.array_equal(signed.masks[it], alone.masks[it]) for it in ("strict", "always", "all_objects"))


@pytest.mark.parametrize("kind", PAINTED)
def test_what_is_planted_later_is_what_was_rendered(kind):
    clip = render_clip("up", source=4, settings=confounded(kind), code=6)
    discs = render_clip("up", source=4, settings=confounded("dark"), code=6).masks["all_objects"]
    footage = np.stack([clip.video[-1]] * 16) if kind == "cut" else None
    video, mask = plant(clip.without_confounder, kind=kind, code=6, objects=discs, footage=footage)
    assert np.array_equal(video, clip.video)
    assert np.array_equal(mask, clip.masks["confounder"])


@pytest.mark.parametrize("kind", ["shot", "cut"])
@pytest.mark.parametrize("num_frames", [16, 30])
def test_no_code_hides_the_action(kind, num_frames):
    settings = confounded(kind, num_frames=num_frames)
    lengths = set()
    for source, name in enumerate(CLASS_NAMES):
        clips = [render_clip(name, source=source, settings=settings, code=code) for code in range(NUM_CODES)]
        assert len({clip.masks["strict"].tobytes() for clip in clips}) == 1
        cuts = [clip.truth["cut_frame"] for clip in clips]
        assert len(set(cuts)) == (1 if kind == "shot" else NUM_CODES)
        for clip, cut in zip(clips, cuts, strict=True):
            assert clip.truth["action_start"] + clip.truth["action_frames"] <= cut
            assert np.flatnonzero(clip.masks["confounder"].all(axis=(1, 2))).tolist() == list(range(cut, num_frames))
        lengths.add(clips[0].truth["action_frames"])
    assert min(lengths) >= 8


def test_every_brightness_is_darker_or_brighter_than_the_clip_and_nothing_is_lost_at_either_end():
    for source, name in product(range(20), CLASS_NAMES):
        assert 0.37 < render_clip(name, source=source, settings=confounded(None)).video.mean() / 255 < 0.53
    for code in (0, NUM_CODES - 1):
        clip = render_clip("left", source=1, settings=confounded("dark"), code=code)
        before, after = np.unique(clip.without_confounder), np.unique(clip.video)
        assert after.size > 0.5 * before.size
        assert (clip.video == 255).mean() < 0.001
        assert (clip.video == 0).mean() < 0.01


def test_scenes_after_a_cut_are_equally_bright_and_unlike():
    scenes = np.stack([draw_backdrop(number, size=(48, 64)) for number in range(8)]).astype(float)
    assert np.ptp(scenes.mean(axis=(1, 2, 3))) < 1
    assert np.abs(np.corrcoef(scenes.reshape(8, -1)) - np.eye(8)).max() < 0.5


# --- a simple statistic reads the sign, and the class only through it


def displacement(gray):
    """Find how far most pixels moved from the first frame to the last; the scene is a torus."""
    shifts = list(product(range(-8, 9), repeat=2))
    return max(shifts, key=lambda by: (np.abs(np.roll(gray[0], by, axis=(0, 1)) - gray[-1]) < 1).mean())


def statistic(kind, clip):
    gray = clip.video.mean(axis=-1)
    changes = np.abs(np.diff(gray, axis=0)).mean(axis=(1, 2))
    cells = np.abs(clip.video.astype(float) - clip.without_confounder).mean(axis=(0, 3)).reshape(4, 12, 4, 12)
    return {
        "plate": lambda: (cells.mean(axis=(1, 3)) / cells.max()).reshape(-1) > 0,
        "dark": lambda: [gray.mean()],
        "shot": lambda: gray[-1, ::6, ::6].reshape(-1),
        "cut": lambda: changes / changes.max(),
        "drift": lambda: displacement(gray),
        "size": lambda: [clip.masks["always"].sum(axis=(1, 2)).max()],
    }[kind]()


def nearest_centre(features, labels, *, known):
    """Classify by the nearest mean of the first `known` clips: a linear rule."""
    centres = np.stack([features[:known][labels[:known] == label].mean(axis=0) for label in range(8)])
    return ((features[known:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)


@pytest.mark.parametrize("kind", NEW)
def test_a_linear_rule_reads_the_code_and_at_an_eighth_not_the_class(kind):
    settings = confounded(kind, agreement=1 / 8, decoys=kind != "size")
    clips = [render_clip(name, source=source, settings=settings) for source in range(20) for name in CLASS_NAMES]
    features = np.array([statistic(kind, clip) for clip in clips], dtype=float)
    codes = np.array([CLASS_NAMES.index(clip.truth["confounder"]["class"]) for clip in clips])
    classes = np.tile(np.arange(8), 20)
    assert np.array_equal(nearest_centre(features, codes, known=80), codes[80:])
    right = nearest_centre(features, classes, known=80) == classes[80:]
    assert binom.ppf(0.001, 80, 1 / 8) <= right.sum() <= binom.ppf(0.999, 80, 1 / 8)


def test_at_an_eighth_all_codes_are_equally_frequent_in_all_classes_and_at_one_they_name_it():
    def count(agreement, num_sources):
        settings = SyntheticSettings(size=(16, 16), confounder="dark", agreement=agreement)
        table = np.zeros((8, 8), dtype=int)
        for source, (label, name) in product(range(num_sources), enumerate(CLASS_NAMES)):
            told = render_clip(name, source=source, settings=settings).truth["confounder"]["class"]
            table[label, CLASS_NAMES.index(told)] += 1
        return table

    assert chi2_contingency(count(1 / 8, 50)).pvalue > 0.001
    assert np.array_equal(count(1.0, 3), 3 * np.eye(8))


# --- mistakes


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"confounder": "cut", "num_frames": 15}, "needs num_frames 16 or more, got 15"),
        ({"confounder": "drift", "drift": 0.01}, "only where drift is 0"),
        ({"confounder": "shot", "cut_probability": 0.2}, "only where cut_probability is 0"),
    ],
)
def test_settings_that_contradict_a_sign_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        SyntheticSettings(**wrong)


def test_codes_and_kinds_that_cannot_be_shown_are_refused():
    video = np.zeros((16, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(ConfigError, match="from 0 to 7, got 8"):
        render_clip("left", settings=confounded("size"), code=8)
    with pytest.raises(ConfigError, match="needs a set with a confounder"):
        render_clip("left", settings=PRESETS["demo"], code=1)
    with pytest.raises(ConfigError, match="render_clip renders drift and size"):
        plant(video, kind="drift", code=1)
    with pytest.raises(ConfigError, match=r"of shape \(16, 32, 32, 3\) is needed, got none"):
        plant(video, kind="cut", code=1)
