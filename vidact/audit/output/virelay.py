"""Export clips, their relevance and their groups as the HDF5 files that ViRelAy shows.

The structure is what ViRelAy's own reader (`virelay/model.py`) opens: `<class>/cluster/<name>` and
`<class>/embedding/<name>` are arrays, and eigenvalues are an attribute. The structure in its documentation
(`hdf5_structure.py`: `clustering/<name>/root`) is another one, which that reader does not open.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from vidact.attribution.registry import build_explainer
from vidact.audit.actors.reading import ClipReader
from vidact.audit.relevance.clusters import MOST_CLUSTERS, Strategies, coarse_map, spectrum
from vidact.audit.runs import Answered, Prepared
from vidact.audit.settings import NONE
from vidact.core.errors import ConfigError, EnvironmentProblem, VidactError

LEAST_CLIPS = 5  # of a class, to be embedded


@dataclass(frozen=True)
class Explained:
    """A clip with its relevance.

    Attributes:
        clip_id: Its name.
        video: Pixels in [0, 1], gray or RGB.
        relevance: Summed over colour.
        label: Its class.
        prediction: What the network says of each class.
    """

    clip_id: str
    video: Float[Tensor, "C T H W"]
    relevance: Float[Tensor, "T H W"]
    label: int
    prediction: Float[Tensor, " K"]


def check_export(method: str | None) -> None:
    """Make sure that clips can be exported before they are asked about.

    Raises:
        ConfigError: there is no method to explain them with.
        EnvironmentProblem: h5py is not installed.
    """
    if method is None:
        raise ConfigError(
            "--export: no method has earned trust; run evaluate, or name one as --method lrp:epsilon_plus"
        )
    _h5py()


def explained_clips(prepared: Prepared, answered: Answered) -> Iterator[Explained]:
    """Explain the clips of an audit once more, for their own classes, at full size."""
    assert prepared.task.method is not None
    network = prepared.run.network
    reader = ClipReader(prepared.run, prepared.chosen, actor=NONE)
    with build_explainer(prepared.task.method, network) as explain:
        for record in answered.records:
            video = reader.read(record["clip"]).video
            with torch.inference_mode():
                scores = network(video)[0]
            relevance = explain(video, torch.tensor([record["label"]])).relevance.sum(dim=1)[0]
            yield Explained(record["clip"], video[0], relevance, record["label"], scores)


def export_virelay(
    folder: Path,
    clips: Iterable[Explained],
    strategies: Mapping[int, Strategies],
    *,
    class_names: Sequence[str],
    seed: int,
) -> tuple[Path, Path, Path]:
    """Write `input.h5`, `attribution.h5` and `analysis.h5`; a clip becomes a strip of its frames, side by side.

    Args:
        folder: Where to.
        clips: One at a time, all of the same size.
        strategies: Of each class, with the group of each of its clips in the order of their names.
        class_names: As labels count them.
        seed: Of the embedding.

    Raises:
        EnvironmentProblem: h5py is not installed, or a file cannot be written.
        VidactError: there is no clip, clips differ in size, or a class has other clips than its strategies.
    """
    h5py = _h5py()
    paths = folder / "input.h5", folder / "attribution.h5", folder / "analysis.h5"
    found: list[tuple[str, int, np.ndarray]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(paths[0], "w") as samples, h5py.File(paths[1], "w") as attributions:
            for clip in clips:
                _append(samples, "data", _strip(clip.video.clamp(0, 1) * 255).round().astype(np.uint8))
                _append(attributions, "attribution", _strip(clip.relevance[None] / 3).astype(np.float32))
                for file in (samples, attributions):
                    _append(file, "label", np.uint16(clip.label))
                _append(attributions, "prediction", clip.prediction.detach().cpu().numpy().astype(np.float32))
                _append(attributions, "index", np.uint32(len(found)))
                found.append((clip.clip_id, clip.label, np.sqrt(coarse_map(clip.relevance.cpu()).numpy().ravel())))
        if not found:
            raise VidactError("expected a clip or more to export")
        with h5py.File(paths[2], "w") as analysis:
            for label, own in strategies.items():
                members = sorted((one[0], index) for index, one in enumerate(found) if one[1] == label)
                _analyse(analysis, class_names[label], own, [index for _, index in members], found, seed)
    except OSError as error:
        raise EnvironmentProblem(f"{folder}: cannot be written ({error.strerror or error})") from error
    return paths


def _h5py() -> Any:
    try:
        return import_module("h5py")
    except ImportError as error:
        raise EnvironmentProblem(
            "an export for ViRelAy needs h5py; install it: pip install 'vidact[virelay]'"
        ) from error


def _strip(video: Float[Tensor, "C T H W"]) -> Float[np.ndarray, "3 H T*W"]:
    """Lay the frames side by side, from left to right."""
    frames = video.detach().cpu().expand(3, -1, -1, -1).permute(0, 2, 1, 3)
    strip: np.ndarray = torch.flatten(frames, 2).numpy()
    return strip


def _append(file: Any, name: str, value: Any) -> None:
    """Add a row to an array that grows, so that one clip at a time is held."""
    row = np.asarray(value)
    if name not in file:
        file.create_dataset(name, (0, *row.shape), maxshape=(None, *row.shape), dtype=row.dtype, chunks=(1, *row.shape))
    rows = file[name]
    if rows.shape[1:] != row.shape:
        raise VidactError(f"expected clips of one size, {rows.shape[1:]} as {name}, got {row.shape}")
    rows.resize(len(rows) + 1, axis=0)
    rows[-1] = row


def _analyse(
    file: Any,
    name: str,
    own: Strategies,
    members: Sequence[int],
    found: Sequence[tuple[str, int, np.ndarray]],
    seed: int,
) -> None:
    """Write a class's groups, and its clips' places in the spectral embedding and in that of t-SNE."""
    if len(members) != len(own.group):
        raise VidactError(f"{name}: expected the {len(own.group)} clips that were grouped, got {len(members)}")
    if len(members) < LEAST_CLIPS:
        return
    points = np.stack([found[index][2] for index in members])
    with threadpool_limits(1):
        values, vectors = spectrum(points)
        count = min(MOST_CLUSTERS, len(points))
        perplexity = min(30.0, (len(points) - 1) / 3)
        places = TSNE(perplexity=perplexity, random_state=seed).fit_transform(vectors[:, :count])
    group = file.create_group(name.replace("/", "_"))
    group["name"] = name
    order = np.argsort(members)  # clips are read in the order of the file
    group["index"] = np.asarray(members, dtype=np.uint32)[order]
    group["embedding/spectral"] = vectors[order, :count].astype(np.float32)
    group["embedding/spectral"].attrs["eigenvalue"] = values[:count].astype(np.float32)
    group["embedding/tsne"] = places[order].astype(np.float32)
    group["embedding/tsne"].attrs["embedding"] = "spectral"
    group["cluster/spray"] = own.group[order].astype(np.int64)
    group["prototype/spray"] = own.means.astype(np.float32)
