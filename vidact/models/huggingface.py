"""Video classifiers of Hugging Face's transformers: VideoMAE, TimeSformer, ViViT, V-JEPA 2 and what else it has."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidact.core.clips import height_and_width
from vidact.core.errors import CheckpointError, ConfigError, VidactError, first_few, in_one_line
from vidact.core.networks import TrainedWeights
from vidact.models.layers import Normalisation, check_input
from vidact.models.weights import CONFIG, open_source, read_normalisation, require_transformers

_UNNAMED = re.compile(r"LABEL_\d+")
# Parts of a config that do not decide which network it is. `attn_implementation` could name code on the hub, and with
# attention maps among the outputs the fused kernel, which relevance follows, would not be used.
_LEFT_OUT = {
    *("architectures", "attn_implementation", "auto_map", "dtype", "torch_dtype", "problem_type", "torchscript"),
    *("id2label", "label2id", "num_labels", "output_attentions", "output_hidden_states", "return_dict", "use_cache"),
    *("transformers_version", "gradient_checkpointing", "name_or_path"),
}


class HuggingFaceVideoNet(nn.Module):
    """A video classifier of transformers (`AutoModelForVideoClassification`), with its weights or without.

    VideoMAE: Tong et al. 2022. TimeSformer: Bertasius et al. 2021. ViViT: Arnab et al. 2021. V-JEPA 2: Assran et al.
    2025. Relevance follows them in gradient form (`composite: cp_lrp` or `attnlrp`). Pixels are normalised as the
    source's preprocessor_config.json says. The source's head is kept where it has `num_classes` outputs, else it is
    new. Nothing in a source is run as code: weights are read from safetensors only.

    Args:
        num_classes: K.
        source: A folder with config.json and model.safetensors, the id of a model on the Hugging Face hub such as
            `MCG-NJU/videomae-base-finetuned-kinetics` (downloaded once), or the contents of a config.json, for random
            weights.
        num_frames: T, as in the source's config; any even number for V-JEPA 2, whose positions are not fixed.
        channels: C, as in the source's config: 3.
        size: Side in pixels, or height and width, as in the source's config.
        frozen_layers: How many layers of the encoder, from the input, are not trained, and with them the embeddings.
        mean: One value per colour, in [0, 1], that is subtracted; None for the source's, else ImageNet's.
        std: One value per colour to divide by, in the same way.

    Attributes:
        config: The contents of a config.json that build this network anywhere, as `source`, with random weights.
        has_trained_head: Whether the head's weights are the source's.

    Raises:
        ConfigError: the clips do not fit the network, or it has no such layers.
        CheckpointError: the source is missing, damaged, or classifies no videos.
        EnvironmentProblem: transformers is not installed, or the source could not be downloaded.
    """

    def __init__(
        self,
        num_classes: int,
        source: str | dict[str, Any],
        num_frames: int = 16,
        channels: int = 3,
        size: int | tuple[int, int] = 224,
        frozen_layers: int = 0,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        require_transformers()
        content, folder = open_source(source)
        place = f"source {folder or ''}".rstrip()
        self.config = _shape_config(content, place)
        self.input_shape = (channels, num_frames, *height_and_width(size))
        with _quiet(), _reworded(place):
            own_mean, own_std = read_normalisation(folder)
            self.network, self.has_trained_head = _build(self.config, folder, num_classes)
        _check_clips(self.network.config, self.input_shape)
        self.input = _normalisation(mean or own_mean, std or own_std, channels)
        _freeze(self.network, frozen_layers)

    @property
    def reopening_settings(self) -> dict[str, Any]:
        """Settings that build it where the source is not at hand, once a checkpoint has its weights."""
        return {"source": self.config}

    @classmethod
    def trained(cls, reference: str, weights: str | None) -> TrainedWeights:
        """Say how a network is built with its weights, for `adopt`.

        Args:
            reference: Its folder, or its id on the hub.
            weights: None: they are in the folder.

        Raises:
            CheckpointError: the source is missing, damaged, or classifies no videos.
            ConfigError: weights are given.
            EnvironmentProblem: transformers is not installed, or the source could not be downloaded.
        """
        require_transformers()
        if weights is not None:
            raise ConfigError(f"hf:{reference} brings its weights in its folder: leave out --weights, got {weights}")
        content, folder = open_source(reference)
        with _quiet(), _reworded(f"source {folder}"):
            config = _config_of(_shape_config(content, f"source {folder}"))
        frames = getattr(config, "frames_per_clip", 16)
        _, num_frames, height, width = _expected_clip(config, (3, frames, 224, 224))
        return TrainedWeights({"source": reference}, _class_names(content.get("id2label")), num_frames, (height, width))

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        check_input(video, self.input_shape)
        frames = self.input(video).transpose(1, 2)  # [B, T, C, H, W]
        scores: Tensor = self.network(**{str(self.network.main_input_name): frames}).logits
        return scores


def _class_names(names: Any) -> tuple[str, ...] | None:
    """List the names of a config's `id2label` in the order of their numbers; None if it has none."""
    if not isinstance(names, dict) or {str(key) for key in names} != {str(number) for number in range(len(names))}:
        return None
    ordered = tuple(str(names[key]) for key in sorted(names, key=int))
    return None if all(_UNNAMED.fullmatch(name) for name in ordered) else ordered


def _shape_config(content: dict[str, Any], place: str) -> dict[str, Any]:
    """Keep the parts of a config that decide which network it is, and check that it classifies videos."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES as KNOWN

    if content.get("model_type") not in KNOWN:
        raise CheckpointError(
            f"{place}: model_type is {content.get('model_type')!r}, which classifies no videos; this version of "
            f"transformers has {', '.join(KNOWN)}"
        )
    if content.get("quantization_config"):
        raise CheckpointError(f"{place}: its weights are quantized; expected those of the network before that")
    return {key: value for key, value in content.items() if key not in _LEFT_OUT and not str(key).startswith("_")}


def _normalisation(mean: list[float], std: list[float], channels: int) -> Normalisation:
    if not len(mean) == len(std) == channels or min(std) <= 0:
        raise ConfigError(f"expected a mean and a std above 0 for each of {channels} colours, got {mean = }, {std = }")
    return Normalisation(mean, std)


def _config_of(settings: dict[str, Any], **more: Any) -> Any:
    from transformers import AutoConfig

    named = {key: value for key, value in settings.items() if key != "model_type"}
    return AutoConfig.for_model(settings["model_type"], **named, **more)


def _build(settings: dict[str, Any], folder: Path | None, num_classes: int) -> tuple[nn.Module, bool]:
    """Build the network, and say whether its head has the source's weights."""
    from transformers import AutoModelForVideoClassification

    kind, config = AutoModelForVideoClassification, _config_of(settings, num_labels=num_classes)
    if folder is None:
        return kind.from_config(config, trust_remote_code=False), False
    network, found = kind.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,  # of the head; what else does not fit is refused below
        local_files_only=True,
        output_loading_info=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    new = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    surplus = {name for name in found["unexpected_keys"] if re.search(r"\.\d+\.", name)}  # of further layers
    body = re.compile(rf"{network.base_model_prefix}\.(?!predictor\.)")  # V-JEPA 2's predictor scores nothing
    if wrong := sorted(filter(body.match, new | surplus)):
        raise CheckpointError(
            f"{folder}: its weights and its {CONFIG} are of different networks: {len(wrong)} weights are missing, "
            f"unknown or of another shape ({first_few(wrong)}); try another copy"
        )
    return network.train(), not new  # as all new networks are; transformers gives it in eval mode


def _expected_clip(config: Any, shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Give the only (C, T, H, W) for which a network has positions and weights; where it takes any, the given one."""

    def own(*names: str, given: Any) -> Any:
        return next((getattr(config, name) for name in names if hasattr(config, name)), given)

    channels, num_frames, height, width = shape
    size = own("image_size", "crop_size", given=(height, width))
    frames = own("num_frames", given=num_frames)
    if hasattr(config, "frames_per_clip"):  # V-JEPA 2: rotary positions, of any number of frames
        frames = max(1, num_frames // config.tubelet_size) * config.tubelet_size
    return own("num_channels", "in_chans", given=channels), frames, *height_and_width(size)


def _check_clips(config: Any, shape: tuple[int, int, int, int]) -> None:
    if shape != (expected := _expected_clip(config, shape)):
        raise ConfigError(
            f"this {config.model_type} takes clips of [C, T, H, W] = {list(expected)}, got {list(shape)}; set "
            "data.num_frames, data.size and data.gray so"
        )


def _freeze(network: Any, frozen_layers: int) -> None:
    """Stop training of the embeddings and the first layers, and of what no score depends on."""
    body, depth = network.base_model, getattr(network.config, "num_hidden_layers", 0)
    if hasattr(body, "predictor"):
        body.predictor.requires_grad_(requires_grad=False)  # V-JEPA 2's, which only its pretraining calls
    lists = [name for name, module in body.named_modules() if isinstance(module, nn.ModuleList)]
    layers = next((name for name in lists if len(body.get_submodule(name)) == depth), None)
    if not 0 <= frozen_layers <= (depth if layers else 0):
        kind = network.config.model_type
        raise ConfigError(f"this {kind} has {depth if layers else 0} layers that can be frozen, got {frozen_layers = }")
    names = [name for name, _ in body.named_parameters()]  # those of the embeddings come first
    last = [row for row, name in enumerate(names) if name.startswith(f"{layers}.{frozen_layers - 1}.")]
    for name in names[: last[-1] + 1 if last else 0]:
        body.get_parameter(name).requires_grad_(requires_grad=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and its table of new weights off the terminal."""
    from transformers.utils import logging

    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _reworded(place: str) -> Iterator[None]:
    """Put what transformers raises into one line."""
    try:
        yield
    except VidactError:
        raise
    except Exception as error:  # it raises a dozen kinds for damaged files and for settings that contradict each other
        raise CheckpointError(
            f"{place}: no network can be built from it ({in_one_line(error)}); try another copy"
        ) from error
