"""Make a run folder of a network that was trained elsewhere, so that every verb works on it.

Heavy imports happen in the functions, so that the command line's help answers at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from vidact.core.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import nn

# Classes of networks that come with weights, by how their names begin.
WITH_WEIGHTS = {
    "torchvision": "vidact.models.pretrained.TorchvisionVideoNet",
    "hf": "vidact.models.huggingface.HuggingFaceVideoNet",
}
ADAPTER = "vidact.models.adapters.AdaptedNetwork"
USUAL = (16, (224, 224), None)  # frames, height and width, frames per second of networks that say nothing of it


@dataclass(frozen=True)
class ClipsOfNetwork:
    """Which clips a network was trained on.

    Attributes:
        num_frames: Frames of a clip; null for those of the network's weights, or 16.
        stride: Distance between two frames.
        fps: Frames per second at which videos are sampled before the stride; null for those of the network's weights,
            or all frames of a file.
        size: Side in pixels, or height and width as '[128, 171]'; null for that of the network's weights, or 224.
        gray: One colour channel instead of three.
        root: Folder of clips of its classes, for evaluate, report and accuracy; null for none.
        split: How these are divided, as in fit. Only clips that it was not trained on are evidence.
        fold: Number of the test fold.
    """

    num_frames: int | None = None
    stride: int = 1
    fps: float | None = None
    size: int | tuple[int, int] | None = None
    gray: bool = False
    root: str | None = None
    split: str = "auto"
    fold: int = 1

    def __post_init__(self) -> None:
        size = self.size if isinstance(self.size, tuple | list) else (self.size,)
        numbers = (self.num_frames, self.stride, self.fps, *size)
        if any(number is not None and number <= 0 for number in numbers):
            raise ConfigError(
                "expected num_frames, stride, fps and size above 0, got "
                f"{self.num_frames}, {self.stride}, {self.fps} and {self.size}"
            )


@dataclass(frozen=True)
class Adaptation:
    """How a network that was written for other inputs is fed, and what it returns.

    Attributes:
        layout: The order of axes that it takes.
        pathways: For a network that takes a list of clips, by how much the frames of each are thinned out, as '[4, 1]'.
        output: Where its output has the logits, as logits or 0; null if it returns them alone.
        mean: What it wants to be subtracted from pixels in [0, 1], a number per colour; null for nothing.
        std: What they are divided by then.
    """

    layout: Literal["BCTHW", "BTCHW"] = "BCTHW"
    pathways: tuple[int, ...] | None = None
    output: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the adapter's settings that differ from its defaults."""
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return {name: value for name, value in given.items() if value not in (None, "BCTHW")}


@dataclass(frozen=True)
class Origin:
    """A network that was trained elsewhere.

    Attributes:
        network: `torchvision:NAME`, `hf:FOLDER-OR-ID`, or a class path, whose module is imported.
        weights: File of its state_dict; None for the weights that come with it.
        class_names: In the order of its outputs; None for those that come with its weights.
        init: Further arguments of its constructor.
        adaptation: What it takes and returns.
    """

    network: str
    weights: str | None = None
    class_names: tuple[str, ...] | None = None
    init: Mapping[str, Any] | None = None
    adaptation: Adaptation = Adaptation()

    def __str__(self) -> str:
        return self.network


@dataclass(frozen=True)
class _Built:
    """A network with its trained weights, and what its run's config says of it."""

    network: "nn.Module"
    config: dict[str, Any]
    data: dict[str, Any]


def adopt_network(origin: Origin, out: Path, *, clips: ClipsOfNetwork) -> None:
    """Write a run folder for a network that was trained elsewhere.

    Args:
        origin: The network.
        out: The run folder; it must not exist, or be empty.
        clips: What the network was trained on.

    Raises:
        ConfigError: the folder is not empty, a setting is missing, or the network cannot be built.
        CheckpointError: the weights are missing, damaged or of another network.
        NetworkError: it does not map clips [B, C, T, H, W] to logits [B, K].
    """
    from vidact.runs.building import build_data, require_same_again, try_network

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is there already; name a new folder for the adopted network")
    kind, _, reference = origin.network.partition(":")
    if kind in WITH_WEIGHTS and reference:
        built = _build_with_weights(origin, WITH_WEIGHTS[kind], reference, clips)
    elif reference:
        raise ConfigError(f"{origin}: expected torchvision:NAME, hf:FOLDER-OR-ID or a class path, as my_module.Net")
    else:
        built = _build_own(origin, clips)
    try_network(built.network, **shape_of(built.data))
    if clips.root is not None:
        build_data(built.data)  # else evaluate would be the first to say what is wrong with it
    require_same_again(built.network, built.config, shape_of(built.data))
    _write(out, built, origin)


def _build_with_weights(origin: Origin, class_path: str, reference: str, clips: ClipsOfNetwork) -> _Built:
    from vidact.core.networks import ComesWithWeights
    from vidact.runs.building import build_network, find_builder

    if origin.adaptation.settings:
        raise ConfigError(f"{origin} is adapted by itself: leave out {', '.join(origin.adaptation.settings)}")
    trained = cast(type[ComesWithWeights], find_builder(class_path)).trained(reference, origin.weights)
    names = origin.class_names or trained.class_names
    _refuse_other_order(origin, trained.class_names)
    if names is None:
        raise ConfigError(
            f"{origin}: its weights do not name its classes; give --classes, a file with one in each line"
        )
    data = data_settings(clips, names, usual=(trained.num_frames, trained.size, trained.fps))
    settings = {**trained.settings, **(origin.init or {})}
    network = build_network(class_path, given=shape_of(data), settings=settings)
    assert isinstance(network, ComesWithWeights)
    if not network.has_trained_head:
        raise CheckpointError(
            f"{origin}: its weights have no last layer for {len(names)} classes; give as many --classes as it was "
            "trained on"
        )
    settings |= network.reopening_settings
    return _Built(network, {"class_path": class_path, "init_args": settings}, data)


def _refuse_other_order(origin: Origin, known: Sequence[str] | None) -> None:
    given = origin.class_names
    if given is not None and known is not None and given != tuple(known) and sorted(given) == sorted(known):
        raise ConfigError(
            f"{origin}: --classes names the classes of its weights in another order; leave it out, or mend its order "
            f"(the first is {known[0]})"
        )


def _build_own(origin: Origin, clips: ClipsOfNetwork) -> _Built:
    from vidact.core.networks import accepted_settings
    from vidact.runs.building import build_network, find_builder
    from vidact.runs.checkpoints import load_foreign_weights

    if origin.class_names is None:
        raise ConfigError(f"{origin}: give --classes, a file with the name of a class in each line")
    if origin.weights is None:
        raise ConfigError(f"{origin}: give --weights, the file of its state_dict")
    data = data_settings(clips, origin.class_names, usual=USUAL)
    taken = accepted_settings(find_builder(origin.network))
    given = {name: value for name, value in shape_of(data).items() if name in taken}
    config: dict[str, Any] = {"class_path": origin.network, "init_args": {**given, **(origin.init or {})}}
    adapter = origin.adaptation.settings
    if adapter:
        config = {"class_path": ADAPTER, "init_args": {"network": config, **adapter}}
    network = build_network(config["class_path"], given={}, settings=config["init_args"])
    load_foreign_weights(network.get_submodule("network") if adapter else network, Path(origin.weights))
    return _Built(network.eval(), config, data)


def data_settings(
    clips: ClipsOfNetwork, names: Sequence[str], *, usual: tuple[int, tuple[int, int], float | None]
) -> dict[str, Any]:
    """Gather the settings of the data, as a run's config has them."""
    num_frames, size, fps = usual
    return {
        "root": None if clips.root is None else str(Path(clips.root).absolute()),
        "classes": list(names),
        "split": clips.split,
        "fold": clips.fold,
        "num_frames": num_frames if clips.num_frames is None else clips.num_frames,
        "stride": clips.stride,
        "size": clips.size if isinstance(clips.size, int) else list(clips.size or size),
        "gray": clips.gray,
        "fps": fps if clips.fps is None else clips.fps,
    }


def shape_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Give what goes into a network and comes out of it, by the settings of its data."""
    return {
        "num_classes": len(data["classes"]),
        "num_frames": data["num_frames"],
        "size": data["size"],
        "channels": 1 if data["gray"] else 3,
    }


def _write(out: Path, built: _Built, origin: Origin) -> None:
    """Write the config and the checkpoint, as `fit` does."""
    import io

    import lightning
    import torch
    import yaml

    from vidact.core.errors import EnvironmentProblem
    from vidact.core.files import atomic_writer, write_whole
    from vidact.runs.checkpoints import NETWORK_PREFIX, seal
    from vidact.runs.folder import RunFolder

    data = {name: value for name, value in built.data.items() if value is not None or name == "root"}
    text = yaml.safe_dump({"data": data, "model": {"network": built.config}}, sort_keys=False)
    content = {
        "pytorch-lightning_version": lightning.__version__,
        "epoch": 0,
        "state_dict": {NETWORK_PREFIX + name: value for name, value in built.network.state_dict().items()},
        "vidact": {
            "class_names": list(data["classes"]),
            "network": built.config["class_path"],
            "adopted": origin.network,
        },
        "vidact_config": text,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    seal(buffer)
    run = RunFolder(out)
    try:
        write_whole(run.best_checkpoint, buffer.getbuffer())
    except OSError as error:
        raise EnvironmentProblem(f"{run.best_checkpoint}: cannot be written ({error.strerror})") from error
    with atomic_writer(run.config) as file:
        file.write(text)
