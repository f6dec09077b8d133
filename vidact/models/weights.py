"""Read the weights of torchvision's video networks, downloaded or from a file, check that they fit, and adapt them."""

import contextlib
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from vidact.core.errors import CheckpointError, EnvironmentProblem

KINETICS = "kinetics400"
_MAX_LISTED = 3


def trained_statistics(name: str) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation per colour, in [0, 1], that one of torchvision's networks was trained with."""
    transforms = get_model_weights(name).KINETICS400_V1.transforms()
    return list(transforms.mean), list(transforms.std)


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
    state = _download(name) if weights == KINETICS else _read(weights)
    body = {key: value for key, value in state.items() if not key.startswith(head)}
    _check_fit(network, body, head=head, source=f"weights {weights!r}", name=name)
    network.load_state_dict(body, strict=False)
    return {key.removeprefix(head): value for key, value in state.items() if key.startswith(head)}


@torch.no_grad()
def fill_head(head: nn.Module, trained: Mapping[str, Tensor]) -> None:
    """Copy the trained head where it has as many classes; S3D's is a convolution of 1×1×1."""
    assert isinstance(head, nn.Linear)
    if {"weight", "bias"} <= trained.keys() and trained["weight"].flatten(1).shape == head.weight.shape:
        head.weight.copy_(trained["weight"].flatten(1))
        head.bias.copy_(trained["bias"])


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
    return _as_state(content, cached)


def _read(path_or_address: str) -> dict[str, Tensor]:
    """Read a state_dict from a file; no code in it is run."""
    if "://" in path_or_address:
        raise CheckpointError(
            f"weights {path_or_address}: addresses are refused; download the file and give its path, or {KINETICS!r}"
        )
    path = Path(path_or_address)
    if not path.is_file():
        raise CheckpointError(f"weights {path}: no such file; expected {KINETICS!r} or the path of a state_dict")
    try:
        damaged = _find_damaged_part(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile and torch raise a dozen kinds for damaged bytes
        raise CheckpointError(
            f"weights {path}: not a whole state_dict that torch has saved ({path.stat().st_size:,} bytes; "
            f"{type(error).__name__}); try another copy"
        ) from error
    if damaged:
        raise CheckpointError(f"weights {path}: the part {damaged} is damaged; try another copy")
    return _as_state(content, path)


def _find_damaged_part(path: Path) -> str | None:
    """Name the first part whose checksum is wrong; files from before torch 1.6 have no checksums."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _as_state(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        holds = f"the keys {', '.join(map(str, list(content)[:_MAX_LISTED]))}" if isinstance(content, dict) else ""
        raise CheckpointError(
            f"weights {path}: expected a state_dict, that is names and tensors; got {holds or type(content).__name__}"
        )
    return dict(content)
