"""Open a run: its network with the trained weights, its config and its classes.

A config decides which code is imported, so it may name only vidact, torch, torchvision, lightning, and modules that the
user trusts.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from vidact.core.clips import height_and_width
from vidact.core.errors import CheckpointError, ConfigError, DataError
from vidact.core.networks import accepted_settings
from vidact.data.datamodule import VideoDataModule
from vidact.data.loading.streaming import WindowSettings
from vidact.data.video.timeline import FrameRates
from vidact.runs.building import build_data, build_network, find_builder
from vidact.runs.checkpoints import give_weights, load_checkpoint
from vidact.runs.config import describe_differences, differences, with_current_class_paths
from vidact.runs.folder import CONFIG, RunFolder
from vidact.runs.trust import modules_of_file, modules_on_command_line, require_trusted, restrict_imports


@dataclass(frozen=True)
class Run:
    """A trained network with its config and classes.

    Attributes:
        name: Of the run's folder or, without one, of the checkpoint.
        folder: The run's folder; None for a checkpoint on its own.
        checkpoint: The file that the weights are from.
        config: Every setting, as `config.yaml` has it.
        class_names: In the order of their numbers.
        epoch: The epoch after which the weights were saved, from 0.
        network: In eval mode.
        trust: Further modules that its config may import from.
        frame_rates: Of its training clips; None if the checkpoint keeps none.
        adopted_from: How its network was named to `adopt`; None for a network that `fit` has trained.
    """

    name: str
    folder: Path | None
    checkpoint: Path
    config: Mapping[str, Any] = field(repr=False)
    class_names: tuple[str, ...]
    epoch: int
    network: nn.Module = field(repr=False)
    trust: tuple[str, ...] = ()
    frame_rates: FrameRates | None = None
    adopted_from: str | None = None

    @property
    def data_settings(self) -> Mapping[str, Any]:
        """The settings of the data."""
        settings: Mapping[str, Any] = self.config["data"]
        return settings

    @property
    def mirror_at_test(self) -> bool:
        """Whether each window is scored together with its mirror image."""
        return bool(self.config["model"].get("mirror_at_test", False))

    def build_data(self) -> VideoDataModule:
        """Build the data module that the run was trained with; no file is read yet.

        Raises:
            ConfigError: a setting that this version does not have.
            DataError: the data is not where it was, or the network was adopted without any.
        """
        if self.adopted_from is not None and self.data_settings.get("root") is None:
            raise DataError(
                f"{self.name} has no clips to measure: evaluate it with --root FOLDER, or adopt the network anew with "
                "--root FOLDER"
            )
        with restrict_imports(self.trust, source=self.checkpoint):
            return build_data(self.data_settings)


def config_of_run(args: Sequence[str]) -> Path | None:
    """Find the config of the run that the checkpoint of `--ckpt_path` belongs to; None if there is none."""
    words = [word for arg in args for word in arg.split("=", 1)]
    given = next((value for word, value in pairwise(words) if word == "--ckpt_path"), "")
    path = RunFolder.of_checkpoint(given).config
    return path if given.endswith(".ckpt") and path.is_file() else None


def restrict_imports_of(args: Sequence[str], trusted: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """Restrict what the config of a run, if `--config` names one, may import to modules that the command line names.

    Args:
        args: With `--config` and its file as two words.
        trusted: Modules that `--trust` has named.
    """
    configs = [Path(value) for flag, value in pairwise(args) if flag == "--config"]
    brought = [path for path in configs if path.name == CONFIG and _lies_in_run(path)]
    if not brought:
        return contextlib.nullcontext()
    named = {*trusted, *modules_on_command_line(args)}
    own = (modules_of_file(path) for path in configs if path not in brought)
    return restrict_imports(named.union(*own), source=brought[0])


def _lies_in_run(config: Path) -> bool:
    folder = config.absolute().parent
    return RunFolder(folder).checkpoints.is_dir() or any(folder.glob("*.ckpt"))


def open_run(path: str | Path, *, trust: Sequence[str] = ()) -> Run:
    """Open a run folder (its best checkpoint, else its last), or a checkpoint.

    Args:
        path: The folder or the file.
        trust: Modules whose code may be imported because the run's config names it, beside vidact, torch, torchvision
            and lightning.

    Raises:
        CheckpointError: there is none, or it is damaged, or of another network than its config says.
        ConfigError: the config cannot be found, read or built, it names code that is not trusted, or the run's
            config.yaml and the checkpoint disagree.
    """
    if "://" in str(path):
        raise CheckpointError(f"{path}: addresses are refused; download the file and give its path")
    checkpoint = _checkpoint_of(Path(path))
    content = load_checkpoint(checkpoint, numbers=True)
    config, folder = read_run_config(checkpoint, content)
    own = content.get("vidact", {})
    names = own.get("class_names")
    if not names:
        raise CheckpointError(f"{checkpoint}: does not name its classes; was it written by `python -m vidact fit`?")
    # Weights that training began with are not needed: the checkpoint has them all.
    reopening = own.get("reopening_settings") or {}
    network = _build_network(config, reopening, num_classes=len(names), trust=trust, source=checkpoint)
    give_weights(network, content, path=checkpoint)
    name = folder.name if folder else checkpoint.stem
    epoch, rates = int(content.get("epoch", 0)), _frame_rates(content, config, source=checkpoint)
    adopted = own.get("adopted")
    return Run(name, folder, checkpoint, config, tuple(names), epoch, network.eval(), tuple(trust), rates, adopted)


def _build_network(
    config: Mapping[str, Any], reopening: Mapping[str, Any], *, num_classes: int, trust: Sequence[str], source: Path
) -> nn.Module:
    network, data = config["model"].get("network"), config["data"]
    if not isinstance(network, dict) or "class_path" not in network:
        raise ConfigError(f"model.network: expected class_path and init_args in the run's config, got {network!r}")
    settings = network.get("init_args") or {}
    if not isinstance(settings, dict):
        raise ConfigError(f"model.network.init_args: expected settings by their names, got {settings!r}")
    class_path = str(network["class_path"])
    require_trusted(class_path, trust, source=source)
    given = {
        "num_classes": num_classes,
        "num_frames": data["num_frames"],
        "size": data["size"],
        "channels": 1 if data["gray"] else 3,
    }
    with restrict_imports(trust, source=source):
        if reopening:
            taken = accepted_settings(find_builder(class_path))
            settings = {**settings, **{name: value for name, value in reopening.items() if name in taken}}
        return build_network(class_path, given=given, settings=settings)


def read_run_config(checkpoint: Path, content: Mapping[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """Read a run's settings from its config.yaml, with which the checkpoint must agree, or else from the checkpoint.

    Args:
        checkpoint: The file.
        content: What it holds.

    Returns:
        The settings, and the run's folder if it has one.

    Raises:
        ConfigError: there are none, they cannot be read, or the two disagree on a setting that changes the training.
    """
    places = (RunFolder.of_checkpoint(checkpoint).path, checkpoint.absolute().parent)
    folder = next((place for place in places if RunFolder(place).config.is_file()), None)
    saved = content.get("vidact_config")
    if not saved and folder is None:
        raise ConfigError(f"{checkpoint}: expected its {CONFIG} in it, beside it or in its run folder; found none")
    inside = _read_config(str(saved), checkpoint) if saved else None
    if folder is None:
        return inside or {}, None
    file = RunFolder(folder).config
    config = _read_config(_text_of(file), file)
    if inside is not None:
        theirs, mine = ({part: one[part] for part in ("data", "model")} for one in (inside, config))
        if found := differences(theirs, mine):
            told = describe_differences(found, there="in the checkpoint", here="in the file")
            raise ConfigError(
                f"{file} and {checkpoint.name} disagree: {told}; bring back the file as `fit` wrote it, or "
                "copy the checkpoint into a folder of its own, where its own settings count"
            )
    return config, folder


def _frame_rates(content: Mapping[str, Any], config: Mapping[str, Any], *, source: Path) -> FrameRates | None:
    """Read the frame rates that the data module has saved in a checkpoint, else the one that the config names."""
    state = content.get(VideoDataModule.__qualname__)
    kept = state.get("frame_rates") if isinstance(state, dict) else None
    if isinstance(kept, dict):
        rates = [kept.get(name) for name in ("lowest", "usual", "highest")]
        known = [float(rate) for rate in rates if isinstance(rate, int | float) and 0 < rate < math.inf]
        if len(known) < len(rates):
            raise CheckpointError(f"{source}: its frame rates are {rates}; expected three numbers above 0")
        return FrameRates(*known)
    fps = config["data"].get("fps")
    return None if fps is None else FrameRates.of([], fps=float(fps))


def warn_of_other_rates(content: Mapping[str, Any], now: FrameRates | None) -> None:
    """Warn if the clips have other frame rates than those that a checkpoint was trained on."""
    learned = _frame_rates(content, {"data": {}}, source=Path("the checkpoint"))
    if learned and now and (told := learned.unlike(now)):
        rank_zero_warn(told)


def _checkpoint_of(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run folder or checkpoint")
    for found in (RunFolder(path).best_checkpoint, RunFolder(path).last_checkpoint):
        if found.is_file():
            return found
    inside = sorted(one for one in path.glob("*") if any(RunFolder(one).checkpoints.glob("*.ckpt")))
    hint = f"; there are runs in it: {', '.join(map(str, inside))}" if inside else ""
    raise CheckpointError(f"{path}: expected checkpoints/best.ckpt or last.ckpt in it, found none{hint}")


def _text_of(config: Path) -> str:
    try:
        return config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{config}: cannot be read ({error}); expected the settings that `fit` saved") from error


def _read_config(text: str, checkpoint: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(with_current_class_paths(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"{checkpoint}: its config is no YAML: {' '.join(str(error).split())}") from error
    parts = config if isinstance(config, dict) else {}
    if not isinstance(parts.get("data"), dict) or not isinstance(parts.get("model"), dict):
        raise ConfigError(f"{checkpoint}: its config lacks `data` or `model`; expected what `fit` saved")
    if lacking := [f"data.{name}" for name in ("num_frames", "size", "gray") if name not in parts["data"]]:
        raise ConfigError(f"{checkpoint}: its config lacks {', '.join(lacking)}; expected all that `fit` saved")
    return parts


def unique_names(runs: Sequence[Run]) -> list[str]:
    """Give runs unique names: their folder's, with its parent's in front where needed, else with a number.

    Raises:
        CheckpointError: a run is given twice.
    """
    places = [run.checkpoint.resolve() for run in runs]
    if len(set(places)) < len(places):
        twice = next(place for place in places if places.count(place) > 1)
        raise CheckpointError(f"{twice}: is given twice; give each run once")
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        parents = [(run.folder or run.checkpoint).resolve().parent.name for run in runs]
        names = [f"{parent}_{name}" if parent else name for parent, name in zip(parents, names, strict=True)]
    for place, name in enumerate(names):
        if name in names[:place]:
            names[place] = next(new for number in range(2, len(names) + 2) if (new := f"{name}_{number}") not in names)
    return names


def window_of(run: Run, *, overlap: float = 0.5) -> WindowSettings:
    """Give the settings by which a run's network sees a video.

    Raises:
        ConfigError: an overlap that is no share of a window.
    """
    data = run.data_settings
    size = data["size"]
    height, width = height_and_width(size)
    return WindowSettings(data["num_frames"], data["stride"], (height, width), data["gray"], overlap, run.frame_rates)
