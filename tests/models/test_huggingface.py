import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.core.errors import CheckpointError, ConfigError, EnvironmentProblem
from vidact.models import huggingface
from vidact.models.huggingface import HuggingFaceVideoNet, class_names
from vidact.runs.building import build_network

CLASSES = ("run", "jump", "wave")
CLIP = {"num_frames": 4, "size": 32}
_ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_FRAMES = {"image_size": 32, "num_frames": 4} | _ENCODER
_PREDICTOR = {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
CONFIGS: dict[str, dict[str, Any]] = {
    "videomae": {"patch_size": 16, "tubelet_size": 2} | _FRAMES,
    "timesformer": {"patch_size": 16} | _FRAMES,
    "vivit": {"tubelet_size": [2, 16, 16]} | _FRAMES,
    "vjepa2": {"crop_size": 32, "frames_per_clip": 4, "patch_size": 16, "num_pooler_layers": 1} | _ENCODER | _PREDICTOR,
}
KINDS = tuple(CONFIGS)
# What the hub's folders of these networks hold; ViViT's pixels go from −1 to 1 before they are normalised.
_OFTEN = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "rescale_factor": 1 / 255}
_WHOLE = {"do_rescale": True, "do_normalize": True, "do_resize": False, "do_center_crop": False}
PREPROCESSING: dict[str, tuple[str, dict[str, Any]]] = {
    "videomae": ("preprocessor_config.json", {"image_processor_type": "VideoMAEImageProcessor"} | _OFTEN),
    "timesformer": ("preprocessor_config.json", {"image_processor_type": "VideoMAEImageProcessor"} | _OFTEN),
    "vivit": (
        "preprocessor_config.json",
        {"image_processor_type": "VivitImageProcessor", "offset": True, "rescale_factor": 1 / 127.5}
        | {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    ),
    "vjepa2": ("video_preprocessor_config.json", {"video_processor_type": "VJEPA2VideoProcessor"} | _OFTEN),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind as the hub has them, with weights that are not those of a new network."""
    return {kind: _save(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def _save(kind: str, folder: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, id2label=dict(enumerate(CLASSES)), **CONFIGS[kind])
    network = transformers.AutoModelForVideoClassification.from_config(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    network.save_pretrained(folder)
    name, settings = PREPROCESSING[kind]
    (folder / name).write_text(json.dumps(settings | _WHOLE))
    return folder


def _clips(num_clips: int = 2) -> Tensor:
    """Clips of 8 bit, which the processors of transformers take."""
    return torch.randint(0, 256, (num_clips, 3, 4, 32, 32), generator=torch.Generator().manual_seed(1))


def _processor(kind: str, folder: Path) -> Any:
    """The class of transformers that prepares the frames for this network."""
    name = PREPROCESSING[kind][1]
    return getattr(transformers, name.get("image_processor_type") or name["video_processor_type"]).from_pretrained(
        folder
    )


@pytest.mark.parametrize("kind", KINDS)
def test_its_logits_are_those_of_transformers(kind: str, folders: dict[str, Path]) -> None:
    theirs = transformers.AutoModelForVideoClassification.from_pretrained(folders[kind]).eval()
    ours, video = HuggingFaceVideoNet(3, str(folders[kind]), **CLIP).eval(), _clips()
    frames = [list(clip.transpose(0, 1).byte()) for clip in video]
    prepared = _processor(kind, folders[kind])(frames, return_tensors="pt")
    with torch.no_grad():
        expected, found = theirs(**prepared).logits, ours(video / 255)
        assert (ours(video.flip(2) / 255) - found).abs().max() > 1e-3 * found.abs().max(), "the logits say nothing"
    assert ours.has_trained_head
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("composite", ["cp_lrp", "attnlrp"])
@pytest.mark.parametrize("kind", KINDS)
def test_relevance_in_gradient_form_closes(kind: str, composite: str, folders: dict[str, Path]) -> None:
    network = HuggingFaceVideoNet(3, str(folders[kind]), **CLIP).eval()
    with GradientForm(network, composite=composite, dtype=torch.float64) as explain:
        found = explain(_clips() / 255, torch.tensor([0, 2]))
    assert found.account is not None
    assert found.account.gap(found.score).max() < 1e-9
    assert found.relevance.abs().amax(dim=(1, 3, 4)).all(), "a frame without relevance"
