"""Render a data set of eight motions as real video files, in HMDB51's layout and naming.

It does not know who reads the files: networks meet them as they meet real clips.

A textured disc lies before a still background and moves, turns, or grows or shrinks inwardly. Position and
texture phase are uniform on their tori, so at any one frame every class has exactly the same distribution:
only motion tells them apart. Mirroring a clip changes its class.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vidact.core import ConfigError, DataError, EnvironmentProblem
from vidact.data.cache import cache_folder
from vidact.data.measuring import measure_video
from vidact.data.video import write_video

# Velocity of (row, column, angle, log radius); rows grow downwards, so angles grow clockwise on the screen.
_VELOCITIES = {
    "clockwise": (0, 0, 1, 0),
    "contract": (0, 0, 0, -1),
    "counter_clockwise": (0, 0, -1, 0),
    "down": (1, 0, 0, 0),
    "expand": (0, 0, 0, 1),
    "left": (0, -1, 0, 0),
    "right": (0, 1, 0, 0),
    "up": (-1, 0, 0, 0),
}
CLASS_NAMES: tuple[str, ...] = tuple(_VELOCITIES)

_FORMAT_VERSION = 2
_MARK = "synthetic.json"
_TEST_SHARE = 0.3
# Lengths are shares of the frame's shorter side, speeds shares of it per frame. Turning and growing have their
# speed at _MIDDLE of the radius.
_RADIUS_RANGE = (0.17, 0.225)
_SPEED_RANGE = (0.007, 0.012)
_MIDDLE = 0.6
# Brightness: dark rim, bright centre (shows a small receptive field where the centre is), texture on top.
_RIM, _SHADING, _CONTRAST = 0.2, 0.65, 0.14
_SPOKES_RANGE, _RINGS_RANGE = (3, 5), (3.0, 5.0)  # periods per turn; radians per unit of log radius
# Key frames only, or coding noise would tell the motion; the finest quantiser; no encoder version in the stream.
_ENCODER_OPTIONS = {"g": "1", "qmin": "2", "qmax": "2", "flags": "+bitexact"}


@dataclass(frozen=True)
class SyntheticSettings:
    """What a set holds; equal settings give equal frames.

    Attributes:
        num_sources: Scenes; a scene is a background and a family of textures, and shows all eight classes.
        clips_per_class_and_source: Clips of each class in each scene.
        num_frames: Frames of each clip.
        size: Height and width in pixels, even.
        fps: Frames per second.
        seed: Where all randomness starts.
    """

    num_sources: int = 160
    clips_per_class_and_source: int = 1
    num_frames: int = 40
    size: tuple[int, int] = (64, 64)
    fps: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_sources < 3:
            raise ConfigError(f"three splits need at least 3 sources, got {self.num_sources = }")
        if min(self.size) < 16 or any(side % 2 for side in self.size):
            raise ConfigError(f"height and width must be even and at least 16 pixels, got {self.size = }")
        if min(self.clips_per_class_and_source, self.num_frames, self.fps) < 1 or self.seed < 0:
            raise ConfigError(f"counts must be at least 1 and the seed at least 0, got {self}")

    def record(self) -> dict[str, object]:
        """List the settings and the version of the rendering, as the mark in the folder keeps them."""
        return {"format_version": _FORMAT_VERSION, **asdict(self), "size": list(self.size)}


DEMO = SyntheticSettings()


@dataclass(frozen=True)
class Scene:
    """What the clips of one source share: a background, and the disc's tint and frequencies of texture."""

    background: Float[np.ndarray, "H W 3"]
    tint: Float[np.ndarray, "3"]
    spokes: int
    rings: float


@dataclass(frozen=True)
class Action:
    """How the disc moves, in (row, column) pixels, clockwise radians and log radius, and its waves' phases."""

    radius_pixels: float
    centre: Float[np.ndarray, "T 2"]
    angle: Float[np.ndarray, " T"]
    log_scale: Float[np.ndarray, " T"]
    phase: Float[np.ndarray, "2"]


def draw_scene(generator: np.random.Generator, *, size: tuple[int, int]) -> Scene:
    """Draw a background and a family of textures."""
    return Scene(
        background=_draw_background(generator, size=size),
        tint=generator.uniform(0.8, 1.0, 3),
        spokes=int(generator.integers(*_SPOKES_RANGE, endpoint=True)),
        rings=float(generator.uniform(*_RINGS_RANGE)),
    )


def _draw_background(generator: np.random.Generator, *, size: tuple[int, int]) -> Float[np.ndarray, "H W 3"]:
    """Sum a few slow waves that close on the torus, in a grayish colour."""
    frequency = generator.integers(-3, 3, (6, 2), endpoint=True)
    phase = generator.uniform(0, 2 * np.pi, 6)
    rows, columns = (np.arange(side) / side for side in size)
    turns = frequency[:, 0, None, None] * rows[:, None] + frequency[:, 1, None, None] * columns  # [J, H, W]
    waves = np.cos(2 * np.pi * turns + phase[:, None, None]).mean(axis=0)
    return np.asarray((0.45 + 0.15 * waves)[..., None] * generator.uniform(0.9, 1.1, 3))


def draw_action(class_name: str, *, generator: np.random.Generator, size: tuple[int, int], num_frames: int) -> Action:
    """Draw place, size, speed and phases in the same way for every class, and apply the class's motion."""
    start = generator.uniform(0, size)
    radius, speed = (generator.uniform(*shares) * min(size) for shares in (_RADIUS_RANGE, _SPEED_RANGE))
    phase = generator.uniform(0, 2 * np.pi, 2)
    path = speed * np.arange(num_frames)[:, None] * np.array(_VELOCITIES[class_name])  # [T, 4], pixels
    angle, log_scale = path[:, 2:].T / (_MIDDLE * radius)
    return Action(radius, (start + path[:, :2]) % np.array(size), angle, log_scale, phase)


def render_clip(
    class_name: str, *, scene: Scene, generator: np.random.Generator, num_frames: int
) -> tuple[UInt8[np.ndarray, "T H W 3"], Bool[np.ndarray, "T H W"]]:
    """Draw an action of a class and paint it into a scene; see `paint`."""
    height, width, _ = scene.background.shape
    return paint(scene, draw_action(class_name, generator=generator, size=(height, width), num_frames=num_frames))


def paint(scene: Scene, action: Action) -> tuple[UInt8[np.ndarray, "T H W 3"], Bool[np.ndarray, "T H W"]]:
    """Paint an action into a scene: the video in RGB, and a mask that is True on the disc."""
    num_frames, (height, width, _) = len(action.centre), scene.background.shape
    corner = np.floor(action.centre).astype(int)  # [T, 2]
    reach = np.arange(-int(action.radius_pixels) - 1, int(action.radius_pixels) + 3)  # P pixels
    rows, columns = corner[:, :1] + reach, corner[:, 1:] + reach  # [T, P], may leave the frame
    down = (rows - action.centre[:, :1])[:, :, None]
    right = (columns - action.centre[:, 1:])[:, None, :]
    radius = np.hypot(down, right)  # [T, P, P]
    cover = np.clip(action.radius_pixels - radius + 0.5, 0, 1)
    shade = _RIM + _SHADING * (1 - (radius / action.radius_pixels) ** 2)
    texture = _texture(scene, action, radius, np.arctan2(down, right))
    colour = (shade + _CONTRAST * texture)[..., None] * scene.tint
    # Modulo the frame's size: what leaves on one side comes back on the other.
    place = np.arange(num_frames)[:, None, None], (rows % height)[:, :, None], (columns % width)[:, None, :]
    video = np.tile(np.rint(255 * scene.background).astype(np.uint8), (num_frames, 1, 1, 1))
    blend = cover[..., None] * colour + (1 - cover[..., None]) * scene.background[place[1:]]
    video[place] = np.rint(255 * np.clip(blend, 0, 1)).astype(np.uint8)
    mask = np.zeros((num_frames, height, width), dtype=bool)
    mask[place] = cover >= 0.5
    return video, mask


def _texture(
    scene: Scene, action: Action, radius: Float[np.ndarray, "T P P"], angle: Float[np.ndarray, "T P P"]
) -> Float[np.ndarray, "T P P"]:
    """Add spokes and rings, waves in log-polar coordinates: turning shifts only the spokes, growing only the rings.

    (Spirals would do for both, but a small part of a turning spiral looks like one of a growing spiral.)
    Near the centre the waves get finer than pixels; a Gaussian blur of one pixel takes them away there.
    """
    radius = np.maximum(radius, 0.5)
    frequency = np.array([scene.spokes, scene.rings])[:, None, None, None]  # [2, 1, 1, 1]
    place = np.stack([angle - action.angle[:, None, None], np.log(radius) - action.log_scale[:, None, None]])
    blur = np.exp(-0.5 * (frequency / radius) ** 2)
    return np.asarray(np.sum(blur * np.cos(frequency * place + action.phase[:, None, None, None]), axis=0))


def synthesize(
    out: Path, *, settings: SyntheticSettings = DEMO, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write a set of clips: `videos/<class>/*.avi`, `masks/<class>/*.npz`, `splits/*.txt`, `synthetic.json`.

    The folder appears complete or not at all. Of several processes that start at once, one wins and
    the others accept its result. A complete set with the same settings is left as it is.

    Args:
        out: The folder; missing, empty, or a complete set with the same settings.
        settings: What to render.
        progress: Called after each clip with the number of clips done and in all.

    Raises:
        DataError: `out` holds something else; nothing is deleted.
        EnvironmentProblem: `out` cannot be written.
    """
    out = out.resolve()
    if _is_complete(out, settings):
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
            built = Path(temporary) / out.name  # a folder of its own: the temporary one is private to the user
            _build(built, settings, progress)
            _publish(built, out, settings)
    except OSError as error:
        raise EnvironmentProblem(f"{out}: the synthetic set cannot be written ({error})") from error


def _is_complete(out: Path, settings: SyntheticSettings) -> bool:
    """True for a complete set, False where there is nothing yet, DataError for anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        found = json.loads((out / _MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != settings.record():
        what = "not a synthetic set" if found is None else "a set with other settings"
        raise DataError(f"{out} is {what}; choose another folder or remove it")
    if missing := [path for *_, path in _clips(out, settings) if not path.is_file()]:
        raise DataError(f"{out}: {len(missing)} files are missing, among them {missing[0]}; remove the folder")
    return True


def _publish(built: Path, out: Path, settings: SyntheticSettings) -> None:
    try:
        built.replace(out)
    except OSError:
        if not _is_complete(out, settings):  # else another process was faster
            raise


def _clips(folder: Path, settings: SyntheticSettings) -> Iterator[tuple[int, str, int, Path]]:
    """Go through source number, class, index and video file of every clip."""
    indices = range(settings.clips_per_class_and_source)
    for source, name, index in product(range(settings.num_sources), CLASS_NAMES, indices):
        file = f"{source:04d}_scene_{name}_f_nm_np1_fr_goo_{index}.avi"
        yield source, name, index, folder / "videos" / name / file


def _generator(settings: SyntheticSettings, *key: int) -> np.random.Generator:
    """Make the generator of a scene or a clip, whatever was drawn before."""
    return np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=key))


def _build(folder: Path, settings: SyntheticSettings, progress: Callable[[int, int], None] | None) -> None:
    for part, name in product(("videos", "masks"), CLASS_NAMES):
        (folder / part / name).mkdir(parents=True)
    clips = list(_clips(folder, settings))
    for done, (source, name, index, path) in enumerate(clips, start=1):
        scene = draw_scene(_generator(settings, source), size=settings.size)
        generator = _generator(settings, source, CLASS_NAMES.index(name), index)
        video, mask = render_clip(name, scene=scene, generator=generator, num_frames=settings.num_frames)
        write_video(path, video, fps=settings.fps, options=_ENCODER_OPTIONS)
        np.savez_compressed(folder / "masks" / name / f"{path.stem}.npz", mask=mask)
        if progress is not None:
            progress(done, len(clips))
    measure_video(clips[0][3])  # some small widths cannot be read back
    _write_splits(folder, settings)
    (folder / _MARK).write_text(json.dumps(settings.record(), indent=2) + "\n", encoding="utf-8")


def _write_splits(folder: Path, settings: SyntheticSettings) -> None:
    """Write three official-style splits by source (1 train, 2 test) whose test sources are disjoint."""
    (folder / "splits").mkdir()
    order = _generator(settings).permutation(settings.num_sources)
    num_test = max(1, int(_TEST_SHARE * settings.num_sources))
    for split, name in product(range(3), CLASS_NAMES):
        test = order[split * num_test : (split + 1) * num_test]
        clips = ((source, path.name) for source, owner, _, path in _clips(folder, settings) if owner == name)
        text = "".join(f"{file} {2 if source in test else 1} \n" for source, file in clips)
        (folder / "splits" / f"{name}_test_split{split + 1}.txt").write_text(text, encoding="utf-8")


def load_mask(path: Path) -> Bool[np.ndarray, "T H W"]:
    """Read a clip's mask, True on the disc.

    Raises:
        DataError: missing, or not a mask that `synthesize` wrote.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return np.asarray(arrays["mask"], dtype=bool)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a mask of the synthetic set ({error})") from error


def default_folder(settings: SyntheticSettings = DEMO) -> Path:
    """Choose a set's folder in the user's cache."""
    key = hashlib.sha256(json.dumps(settings.record(), sort_keys=True).encode()).hexdigest()[:10]
    return cache_folder() / f"synthetic-{key}"
