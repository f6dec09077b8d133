import numpy as np
import pytest
from scipy.stats import binomtest

from vidact.data.synthetic.confounders import NUM_CODES, draw_code, plant

KINDS = ("patch", "band", "flicker")  # the others: test_confounded_clips
VIDEO = np.random.default_rng(0).integers(60, 180, (16, 48, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_the_mask_shows_is_painted(kind):
    before = VIDEO.copy()
    for code in range(NUM_CODES):
        painted, mask = plant(VIDEO, kind=kind, code=code)
        assert np.array_equal(painted[~mask], VIDEO[~mask])
        assert (painted[mask] != VIDEO[mask]).all()
        assert 0 < mask.mean() < 0.1
    assert np.array_equal(VIDEO, before)


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_has_a_sign_of_its_own(kind):
    signs = [plant(VIDEO, kind=kind, code=code)[0] for code in range(NUM_CODES)]
    assert len({sign.tobytes() for sign in signs}) == NUM_CODES


def test_patch_and_band_are_there_all_the_time_and_a_flicker_is_not():
    frames = {kind: plant(VIDEO, kind=kind, code=3)[1].any(axis=(1, 2)) for kind in KINDS}
    assert frames["patch"].all()
    assert frames["band"].all()
    assert np.flatnonzero(frames["flicker"]).tolist() == [6, 7]


@pytest.mark.parametrize("num_frames", [1, 5, 8, 64])
def test_a_flicker_is_seen_in_clips_of_any_length(num_frames):
    for code in range(NUM_CODES):
        assert plant(VIDEO[np.arange(num_frames) % 16], kind="flicker", code=code)[1].any()


@pytest.mark.parametrize("agreement", [1 / 8, 0.5, 0.8, 0.95, 1.0])
def test_signs_agree_with_the_class_at_the_rate_and_are_else_any_other(agreement):
    generator = np.random.default_rng(1)
    codes = np.array([draw_code(5, agreement=agreement, generator=generator) for _ in range(4000)])
    assert binomtest(int((codes == 5).sum()), 4000, agreement).pvalue > 0.001
    others = np.bincount(codes[codes != 5], minlength=8)
    if agreement < 1:
        expected = (1 - agreement) / 7 * 4000
        assert np.abs(others[np.arange(8) != 5] - expected).max() < 5 * np.sqrt(expected)
