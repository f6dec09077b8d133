import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, ks_2samp
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vidact.core.errors import ConfigError
from vidact.data.synthetic.clips import MASK_KINDS, PRESETS, SyntheticSettings, render_clip
from vidact.data.synthetic.motions import CLASS_NAMES

HARD = SyntheticSettings(walkers=2, drift=0.02, cut_probability=1.0, confounder="band", agreement=0.5)


def digest(clip):
    parts = [clip.video, *(clip.masks[kind] for kind in MASK_KINDS)]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_clips_are_bit_identical_from_a_seed_and_others_from_another():
    def digests(seed):
        return [digest(render_clip(name, settings=replace(HARD, seed=seed))) for name in CLASS_NAMES]

    assert digests(0) == digests(0)
    assert not set(digests(0)) & set(digests(1))


def test_every_preset_renders_and_tells_the_truth():
    for chosen in PRESETS.values():
        clip = render_clip("expand", source=5, settings=chosen)
        assert clip.video.shape == (chosen.num_frames, *chosen.size, 3)
        assert clip.video.dtype == np.uint8
        assert tuple(clip.masks) == MASK_KINDS
        assert clip.truth["class"] == "expand"
        assert (clip.without_confounder is None) == (chosen.confounder is None)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CLASS_NAMES), st.integers(0, 10**4), st.integers(4, 24))
def test_masks_hold_one_another_and_the_action_is_when_the_truth_says(name, source, num_frames):
    clip = render_clip(name, source=source, settings=replace(HARD, num_frames=num_frames, size=(48, 64)))
    masks, truth = clip.masks, clip.truth
    action = slice(truth["action_start"], truth["action_start"] + truth["action_frames"])
    assert np.array_equal(masks["strict"][action], masks["always"][action])
    outside = np.ones(num_frames, dtype=bool)
    outside[action] = False
    assert not masks["strict"][outside].any()
    assert not masks["swept"][outside].any()
    assert not (masks["strict"] & ~masks["swept"]).any()
    assert not (masks["always"] & ~masks["all_objects"]).any()
    signless = ~masks["confounder"]
    for t in range(action.start, action.stop):
        near = [masks["strict"][other] for other in (t - 1, t, t + 1) if action.start <= other < action.stop]
        assert np.array_equal(masks["swept"][t], np.any(near, axis=0) & signless[t])


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CLASS_NAMES), st.integers(0, 10**4))
def test_a_cut_lies_outside_of_the_action_and_changes_the_scene(name, source):
    clip = render_clip(name, source=source, settings=SyntheticSettings(cut_probability=1.0))
    truth, cut = clip.truth, clip.truth["cut_frame"]
    if truth["action_frames"] == 16:
        assert cut is None
        return
    assert not truth["action_start"] < cut < truth["action_start"] + truth["action_frames"]
    ground = clip.video[~clip.masks["all_objects"].any(axis=0)[None].repeat(16, 0)].reshape(16, -1).astype(int)
    change = np.abs(np.diff(ground, axis=0)).mean(axis=1) if ground.size else np.zeros(15)
    assert change.argmax() == cut - 1 or not ground.size


def test_only_as_many_clips_have_a_cut_as_was_asked_for():
    asked = SyntheticSettings(cut_probability=0.3, action_frames=(4, 8), size=(16, 16))
    cuts = [render_clip("left", source=source, settings=asked).truth["cut_frame"] for source in range(400)]
    share = np.mean([cut is not None for cut in cuts])
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 400)


@pytest.mark.parametrize("kind", ["patch", "band", "flicker"])
def test_removing_the_confounder_changes_nothing_else(kind):
    plain = SyntheticSettings(walkers=1, drift=0.01)
    for name in CLASS_NAMES:
        alone = render_clip(name, source=2, settings=plain)
        signed = render_clip(name, source=2, settings=replace(plain, confounder=kind, agreement=0.5))
        assert np.array_equal(signed.without_confounder, alone.video)
        mask = signed.masks["confounder"]
        assert mask.any()
        assert np.array_equal(signed.video[~mask], alone.video[~mask])
        for objects in MASK_KINDS[:-1]:
            assert np.array_equal(signed.masks[objects], alone.masks[objects] & ~mask)


@pytest.mark.parametrize("agreement", [0.5, 1.0])
def test_the_dose_is_the_share_of_clips_whose_sign_is_their_classs(agreement):
    asked = SyntheticSettings(confounder="patch", agreement=agreement, size=(16, 16), num_frames=4)
    truths = [render_clip(name, source=source, settings=asked).truth for source in range(60) for name in CLASS_NAMES]
    share = np.mean([truth["confounder"]["class"] == truth["class"] for truth in truths])
    assert abs(share - agreement) <= 4 * np.sqrt(agreement * (1 - agreement) / len(truths))


# --- a single frame does not tell the class


@pytest.fixture(scope="module")
def single_frames():
    """The middle frame of 1,600 clips: gray [N, 32, 32], class [N]."""
    asked = SyntheticSettings(size=(32, 32), seed=3)
    clips = [render_clip(name, source=source, settings=asked) for source in range(200) for name in CLASS_NAMES]
    return np.stack([clip.video[8].mean(axis=-1) for clip in clips]), np.tile(np.arange(8), 200)


def test_single_frame_statistics_do_not_depend_on_the_class(single_frames):
    frames, labels = single_frames
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


def test_a_classifier_of_single_frames_stays_at_chance(single_frames):
    frames, labels = single_frames
    pooled = frames.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64)
    features = np.concatenate([pooled, (pooled - pooled.mean(axis=1, keepdims=True)) ** 2], axis=1)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    classifier.fit(features[:1120], labels[:1120])  # rows are in the order of the sources
    right = (classifier.predict(features[1120:]) == labels[1120:]).sum()
    assert binom.ppf(0.001, 480, 1 / 8) <= right <= binom.ppf(0.999, 480, 1 / 8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_sources": 2},
        {"size": (63, 64)},
        {"size": (8, 8)},
        {"num_frames": 0},
        {"fps": 0},
        {"seed": -1},
        {"action_frames": (0, 4)},
        {"action_frames": (9, 4)},
        {"walkers": 5},
        {"blobs": -1},
        {"drift": 0.5},
        {"cut_probability": 1.5},
        {"agreement": 0.1},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        SyntheticSettings(**wrong)
