import numpy as np
import pytest

from vidact.data.synthetic import scenes
from vidact.data.synthetic.motions import draw_motion
from vidact.data.synthetic.scenes import Disc, Scene, draw_discs, draw_scene, paint

STILL = np.zeros((16, 2), dtype=int)


def one_disc(*, radius=8.0, centre=(30.0, 40.0), angle=(0.0,), log_scale=(0.0,), phase=(1.0, 2.0)):
    count = len(angle)
    return Disc(radius, np.tile(centre, (count, 1)), np.array(angle), np.array(log_scale), np.array(phase), 1.0)


def plain_scene(height, width):
    return Scene(np.full((height, width, 3), 0.5, np.float32), np.ones(3), spokes=4, rings=4.0)


def naive(scene, disc, shift):
    """Pixel by pixel, in Python's floats."""
    height, width = scene.size
    frames = np.zeros((len(shift), height, width, 3))
    for t, row, column in np.ndindex(len(shift), height, width):
        down, right = (
            (place - middle - moved + side / 2) % side - side / 2
            for place, middle, moved, side in zip((row, column), disc.centre[t], shift[t], (height, width), strict=True)
        )
        radius = np.hypot(down, right)
        ground = scene.background[(row - shift[t, 0]) % height, (column - shift[t, 1]) % width]
        cover = np.clip(disc.radius_pixels + 0.5 - radius, 0, 1)
        shade = 0.2 + 0.5 * (1 - (radius / disc.radius_pixels) ** 2)
        near = max(radius, 0.5)
        for frequency, wave in (
            (scene.spokes, scene.spokes * (np.arctan2(down, right) - disc.angle[t]) + disc.phase[0]),
            (scene.rings, scene.rings * (np.log(near) - disc.log_scale[t]) + disc.phase[1]),
        ):
            shade += 0.2 * np.exp(-0.5 * (frequency / near) ** 2) * np.cos(wave)
        frames[t, row, column] = np.clip(cover * shade * scene.tint + (1 - cover) * ground, 0, 1)
    return 255 * frames


def test_painting_equals_the_formulas_pixel_by_pixel():
    scene = draw_scene(np.random.default_rng(0), size=(40, 48), blobs=2)
    disc = one_disc(radius=7.3, centre=(37.4, 3.2), angle=(0.0, 0.7), log_scale=(0.0, -0.4))
    shift = np.array([[0, 0], [3, -5]])
    video, seen = paint(scene, [disc], shift=shift)
    expected = naive(scene, disc, shift)
    assert np.abs(video - expected).max() <= 1.01
    assert (seen == 0).sum() == pytest.approx(2 * np.pi * 7.3**2, rel=0.03)


def test_a_nearer_disc_hides_a_farther_one():
    discs = [one_disc(centre=(20.0, 20.0)), one_disc(centre=(20.0, 26.0), radius=9.0)]
    _, seen = paint(plain_scene(64, 64), discs, shift=STILL[:1])
    _, alone = paint(plain_scene(64, 64), discs[1:], shift=STILL[:1])
    assert np.array_equal(seen == 1, alone == 0)
    assert 0 < (seen == 0).sum() < np.pi * 64


def test_the_world_is_a_torus_and_the_camera_moves_all_of_it():
    scene = draw_scene(np.random.default_rng(1), size=(64, 64), blobs=3)
    motion = draw_motion("left", generator=np.random.default_rng(2), num_frames=16)
    discs = draw_discs(motion, generator=np.random.default_rng(3), size=(64, 64))
    shift = np.stack([np.arange(16), -2 * np.arange(16)], axis=1)
    still, moved = paint(scene, discs, shift=STILL)[0], paint(scene, discs, shift=shift)[0]
    undone = np.stack([np.roll(frame, -step, axis=(0, 1)) for frame, step in zip(moved, shift, strict=True)])
    assert np.abs(undone.astype(int) - still).max() <= 1


def texture(monkeypatch, *, angle, log_scale):
    """The texture alone on a large disc in the middle, two frames."""
    disc = one_disc(radius=86.0, centre=(96.0, 96.0), angle=(0, angle), log_scale=(0, log_scale))
    painted, _ = paint(plain_scene(192, 192), [disc], shift=STILL[:2])
    with monkeypatch.context() as patch:
        patch.setattr(scenes, "_CONTRAST", 0)
        plain, _ = paint(plain_scene(192, 192), [disc], shift=STILL[:2])
    return (painted.astype(float) - plain)[..., 0]


@pytest.mark.parametrize(("angle", "log_scale"), [(0.3, 0.0), (-0.3, 0.0), (0.0, 0.3), (0.0, -0.3)])
def test_turning_turns_and_growing_grows(monkeypatch, angle, log_scale):
    """Undo the warp: turning must show the first frame's spokes, growing its rings."""
    before, after = texture(monkeypatch, angle=angle, log_scale=log_scale)
    radius, theta = np.meshgrid(np.linspace(36, 58, 23), np.linspace(-np.pi, np.pi, 360), indexing="ij")

    def sample(image, radius, theta):
        rows, columns = 96 + radius * np.sin(theta), 96 + radius * np.cos(theta)
        values = image[np.rint(rows).astype(int), np.rint(columns).astype(int)]
        return values - values.mean(axis=1, keepdims=True) if angle else values.mean(axis=1)

    first = sample(before, radius, theta)
    undone = sample(after, radius * np.exp(log_scale), theta + angle)
    redone = sample(after, radius * np.exp(-log_scale), theta - angle)
    assert np.abs(undone - first).mean() < 0.15 * np.abs(redone - first).mean()


@pytest.mark.parametrize(
    ("name", "change"),
    [("right", (0, 1, 0, 0)), ("up", (-1, 0, 0, 0)), ("clockwise", (0, 0, 1, 0)), ("contract", (0, 0, 0, -1))],
)
def test_a_step_changes_what_its_axis_says(name, change):
    motion = draw_motion(name, generator=np.random.default_rng(0), num_frames=16, length_range=(16, 16))
    disc = draw_discs(motion, generator=np.random.default_rng(1), size=(64, 64))[motion.actor]
    per_frame = [*np.diff(disc.centre, axis=0).T, np.diff(disc.angle), np.diff(disc.log_scale)]
    at_the_middle = 0.6 * disc.radius_pixels
    for found, expected in zip(per_frame, np.array(change) * disc.step_pixels, strict=True):
        unit = 1 if found is per_frame[0] or found is per_frame[1] else at_the_middle
        assert found * unit == pytest.approx(np.full(15, expected), abs=1e-9)
    assert 0.016 * 64 <= disc.step_pixels <= 0.022 * 64


def test_walkers_move_as_much_light_as_the_actor_and_decoys_no_less():
    """Sum of |x_t − x_{t−1}| over each disc, in the frames of the action."""
    energy = {"actor": [], "decoy": [], "walker": []}
    for seed in range(300):
        generator = np.random.default_rng(seed)
        motion = draw_motion(
            ["left", "right", "up", "down", "clockwise", "expand"][seed % 6],
            generator=generator,
            num_frames=16,
            length_range=(8, 16),
            walkers=1,
        )
        discs = draw_discs(motion, generator=generator, size=(64, 64))
        for number, disc in enumerate(discs):
            video, _ = paint(plain_scene(64, 64), [disc], shift=STILL)
            change = np.abs(np.diff(video[..., 0].astype(float), axis=0))[
                motion.start : motion.start + motion.length - 1
            ]
            role = "actor" if number == motion.actor else "decoy" if number < 4 else "walker"
            energy[role].append(change.sum(axis=(1, 2)).mean())
    mean = {role: np.mean(values) for role, values in energy.items()}
    spread = {role: np.std(values) / np.sqrt(len(values)) for role, values in energy.items()}
    assert abs(mean["walker"] - mean["actor"]) < 4 * np.hypot(spread["walker"], spread["actor"])
    assert mean["decoy"] > mean["actor"]


def test_blobs_come_in_pairs_that_leave_the_mean_brightness():
    with_blobs, without = (
        np.stack([draw_scene(np.random.default_rng(seed), size=(64, 64), blobs=count).background for seed in range(60)])
        for count in (4, 0)
    )
    assert with_blobs.std() > 1.5 * without.std()
    assert abs(with_blobs.mean() - without.mean()) < 0.02
