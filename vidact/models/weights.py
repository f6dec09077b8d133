"""Find trained weights of torchvision's and Hugging Face's video networks, on disk or to be downloaded; adapt them."""

import contextlib
import json
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from vidact.core.errors import CheckpointError, EnvironmentProblem, in_one_line
from vidact.core.files import read_state_dict
from vidact.core.networks import TrainedWeights

KINETICS = "kinetics400"
_MAX_LISTED = 3
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG = "config.json"
# Where a folder says how pixels are normalised; the first that is there counts.
_PREPROCESSING = ("video_preprocessor_config.json", "preprocessor_config.json")
# The only files that are downloaded: settings, and weights that hold no code.
_NEEDED = (CONFIG, *_PREPROCESSING, "model*.safetensors*")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
# Frames of a clip and frames per second at which torchvision states the accuracy of its weights.
_CLIPS = {"s3d": (128, 15.0), "swin3d": (32, 15.0), "mvit": (16, 7.5), "": (16, 15.0)}


def trained_statistics(name: str) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation per colour, in [0, 1], that one of torchvision's networks was trained with."""
    transforms = get_model_weights(name).KINETICS400_V1.transforms()
    return list(transforms.mean), list(transforms.std)


def trained_clips(name: str, own: str | None) -> TrainedWeights:
    """Gather what the weights of one of torchvision's networks were trained on, by torchvision's documentation.

    Args:
        name: Of the network.
        own: File of other weights, with classes of their own, or of torchvision's, by the name that it has there.
    """
    weights = get_model_weights(name).KINETICS400_V1
    num_frames, fps = next(clips for start, clips in _CLIPS.items() if name.startswith(start))
    height, width = weights.transforms().crop_size[0], weights.transforms().crop_size[-1]
    its_own = own is None or own == KINETICS or Path(own).name == Path(urlparse(weights.url).path).name
    names = tuple(weights.meta["categories"]) if its_own else None
    return TrainedWeights({"name": name, "weights": own or KINETICS}, names, num_frames, (height, width), fps)


def load_pretrained(network: nn.Module, name: str, *, weights: str, head: str) -> dict[str, Tensor]:
    """Fill one of torchvision's networks with trained weights, all but its head.

    Args:
        network: As torchvision builds it.
        name: Its name there, like `r3d_18`.
        weights: `kinetics400`, to be downloaded by torchvision, or the path of a file with a state_dict.
        head: How the names of the last layer's parameters begin; it may be of another size, or missing.

    Returns:
        The head's `weight` and `bias`, as far as there are any.

    Raises:
        CheckpointError: missing, damaged, not a state_dict, of another network, or an address.
        EnvironmentProblem: the download failed.
    """
    state = _download(name) if weights == KINETICS else _read(weights, network)
    body = {key: value for key, value in state.items() if not key.startswith(head)}
    _check_fit(network, body, head=head, source=f"weights {weights!r}", name=name)
    network.load_state_dict(body, strict=False)
    return {key.removeprefix(head): value for key, value in state.items() if key.startswith(head)}


@torch.no_grad()
def fill_head(head: nn.Module, trained: Mapping[str, Tensor]) -> bool:
    """Copy the trained head where it has as many classes, and say whether it has; S3D's is a convolution of 1×1×1."""
    assert isinstance(head, nn.Linear)
    fits = {"weight", "bias"} <= trained.keys() and trained["weight"].flatten(1).shape == head.weight.shape
    if fits:
        head.weight.copy_(trained["weight"].flatten(1))
        head.bias.copy_(trained["bias"])
    return fits


@torch.no_grad()
def add_up_colours(network: nn.Module, std: Sequence[float]) -> None:
    """Let the first convolution take gray videos instead of coloured ones.

    Three equal colours, each normalised by its own deviation, become one gray channel with the mean deviation.
    """
    first = next(module for module in network.modules() if isinstance(module, nn.Conv3d))
    deviation = torch.tensor(std).reshape(1, 3, 1, 1, 1)
    first.in_channels = 1
    first.weight = nn.Parameter((first.weight * deviation.mean() / deviation).sum(dim=1, keepdim=True))


def _check_fit(network: nn.Module, body: Mapping[str, Tensor], *, head: str, source: str, name: str) -> None:
    expected = {key: value.shape for key, value in network.state_dict().items() if not key.startswith(head)}
    found = {key: value.shape for key, value in body.items()}
    # Counters of batches are missing from old files, and nothing uses them.
    wrong = [key for key in expected if found.get(key) != expected[key] and not key.endswith("num_batches_tracked")]
    wrong += [key for key in found if key not in expected]
    if wrong:
        first = ", ".join(wrong[:_MAX_LISTED]) + (", …" if len(wrong) > _MAX_LISTED else "")
        raise CheckpointError(
            f"{source} are not those of {name}: {len(wrong)} entries are missing, unknown or of another shape "
            f"({first}); expected a state_dict of torchvision's {name}"
        )


def _download(name: str) -> dict[str, Tensor]:
    """Download torchvision's weights, or read them from its cache."""
    weights = get_model_weights(name).KINETICS400_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(weights.url).path).name
    try:
        with contextlib.redirect_stdout(sys.stderr):
            content = weights.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu")
    except OSError as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise EnvironmentProblem(
            f"the weights of {name} could not be brought from {weights.url} to {cached} ({error}); download them by "
            "hand and give the file's path as `weights`"
        ) from error
    except Exception as error:  # torch raises a dozen kinds for damaged bytes
        raise CheckpointError(
            f"the weights of {name} from {weights.url} are damaged ({type(error).__name__}: {error}); delete {cached}, "
            "if it is there, and try again"
        ) from error
    state: dict[str, Tensor] = content
    return state


def _read(path_or_address: str, network: nn.Module) -> dict[str, Tensor]:
    if "://" in path_or_address:
        raise CheckpointError(
            f"weights {path_or_address}: addresses are refused; download the file and give its path, or {KINETICS!r}"
        )
    if not Path(path_or_address).is_file():
        raise CheckpointError(f"weights {path_or_address}: no such file; expected {KINETICS!r} or a state_dict's path")
    return read_state_dict(Path(path_or_address), known=network.state_dict())


def open_source(source: str | dict[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """Read a source's config.json; gives the folder that it is, or into which it was downloaded, too."""
    if isinstance(source, dict):
        return source, None
    if "://" in source:
        raise CheckpointError(f"source {source}: addresses are refused; give a folder, or an id such as owner/name")
    folder = Path(source)
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(source):
            raise CheckpointError(f"source {source}: no such folder; expected one with {CONFIG} and model.safetensors")
        folder = _download_source(source)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"source {source}: has no {CONFIG}; expected what transformers' save_pretrained writes")
    return _read_json(folder / CONFIG), folder


def _download_source(name: str) -> Path:
    """Download a model from the Hugging Face hub, or find it in the hub's cache."""
    require_transformers()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_NEEDED)))
    except Exception as error:  # the hub has a dozen kinds for what is missing, refused or not reached
        raise EnvironmentProblem(
            f"source {name}: no such folder, and it could not be downloaded from the Hugging Face hub "
            f"({in_one_line(error)}); download it where there is a network, and give the folder's path"
        ) from error


def require_transformers() -> None:
    """Make sure that transformers, which is imported only where it is used, is installed."""
    try:
        import transformers

        if int(transformers.__version__.partition(".")[0]) < 5:  # it would not tell which weights it has left out
            raise ImportError(f"{transformers.__version__} is older than 5")
    except ImportError as error:
        raise EnvironmentProblem(
            f"networks of Hugging Face need transformers ({in_one_line(error)}): pip install 'vidact[huggingface]'"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({in_one_line(error)}); try another copy") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected settings by their names, got {type(content).__name__}")
    return content


def read_normalisation(folder: Path | None) -> tuple[list[float], list[float]]:
    """Read how a source normalises pixels, as mean and deviation of pixels in [0, 1]; ImageNet's if it says nothing."""
    path = next((folder / name for name in _PREPROCESSING if (folder / name).is_file()), None) if folder else None
    if path is None:
        if folder is not None:
            warnings.warn(
                f"{folder} does not say how pixels are normalised; ImageNet's mean and deviation are taken (settings: "
                "mean, std)",
                stacklevel=2,
            )
        return list(IMAGENET_MEAN), list(IMAGENET_STD)
    settings = _read_json(path)
    scale, offset = 255.0, 0.0  # what becomes of a pixel of 1, and what is subtracted
    if settings.get("do_rescale", True):
        scale *= settings.get("rescale_factor", 1 / 255)
        # ViViT's pixels go from −1 to 1 before they are normalised; its own processor does so without saying it.
        offset = float(settings.get("offset", settings.get("video_processor_type") == "VivitVideoProcessor"))
    normalises = settings.get("do_normalize", True)
    mean, std = (settings.get("image_mean"), settings.get("image_std")) if normalises else ([0.0] * 3, [1.0] * 3)
    if not isinstance(mean, list) or not isinstance(std, list):
        raise CheckpointError(f"{path}: expected image_mean and image_std, one value per colour; got {mean}, {std}")
    return [(offset + value) / scale for value in mean], [value / scale for value in std]
