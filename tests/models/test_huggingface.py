import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from torch import Tensor

from vidact.attribution.gradient_form.explainer import GradientForm
from vidact.core.errors import CheckpointError, ConfigError, EnvironmentProblem
from vidact.models.huggingface import HuggingFaceVideoNet
from vidact.runs.building import build_network

CLASS = "vidact.models.huggingface.HuggingFaceVideoNet"
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
    frames = [list(clip.transpose(0, 1).byte().numpy()) for clip in video]
    prepared = _processor(kind, folders[kind])(frames, return_tensors="pt")
    with torch.no_grad():
        expected, found = theirs(**prepared).logits, ours(video / 255)
        assert (ours(video.flip(2) / 255) - found).abs().max() > 1e-3 * found.abs().max(), "the logits say nothing"
    assert ours.has_trained_head
    assert (found - expected).abs().max() < 1e-6


@pytest.mark.parametrize("composite", ["cp_lrp", "attnlrp"])
@pytest.mark.parametrize("kind", KINDS)
def test_relevance_in_gradient_form_closes(kind: str, composite: str, folders: dict[str, Path]) -> None:
    network = HuggingFaceVideoNet(3, str(folders[kind]), **CLIP).eval()
    with GradientForm(network, composite=composite, dtype=torch.float64) as explain:
        found = explain(_clips() / 255, torch.tensor([0, 2]))
    assert found.account is not None
    assert found.account.gap(found.score).max() < 1e-9
    assert found.relevance.abs().amax(dim=(1, 3, 4)).all(), "a frame without relevance"


def test_a_folder_without_preprocessing_has_imagenets_and_settings_come_first(tmp_path: Path) -> None:
    folder = _save("videomae", tmp_path)
    (folder / PREPROCESSING["videomae"][0]).unlink()
    with pytest.warns(UserWarning, match="does not say how pixels are normalised; ImageNet's mean and deviation"):
        network = HuggingFaceVideoNet(3, str(folder), std=[0.5, 0.5, 0.25], **CLIP)
    torch.testing.assert_close(network.input.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(network.input.std.flatten(), torch.tensor([0.5, 0.5, 0.25]))


def test_vivits_video_processor_moves_pixels_without_saying_so(tmp_path: Path) -> None:
    if not hasattr(transformers, "VivitVideoProcessor"):
        pytest.skip("this version of transformers has an image processor only")
    folder, frames = _save("vivit", tmp_path), _clips(1)[0].transpose(0, 1).byte().numpy()
    processor = transformers.VivitVideoProcessor(do_resize=False, do_center_crop=False)
    processor.save_pretrained(folder)
    network = HuggingFaceVideoNet(3, str(folder), **CLIP)
    expected = processor([frames], return_tensors="pt")["pixel_values"].transpose(1, 2)
    torch.testing.assert_close(network.input(_clips(1) / 255), expected, rtol=1e-5, atol=1e-6)


def test_a_head_of_another_size_is_new_and_nothing_is_printed(
    folders: dict[str, Path], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    theirs = transformers.AutoModelForVideoClassification.from_pretrained(folders["vivit"])
    capfd.readouterr()
    level = transformers.utils.logging.get_verbosity()
    network = HuggingFaceVideoNet(5, str(folders["vivit"]), **CLIP)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert transformers.utils.logging.get_verbosity() == level
    assert not network.has_trained_head
    assert network.training
    assert network(_clips() / 255).shape == (2, 5)
    head, body = "classifier.", theirs.state_dict()
    for name, value in network.network.state_dict().items():
        assert name.startswith(head) or torch.equal(value, body[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_its_config_builds_it_where_the_folder_is_gone(kind: str, tmp_path: Path) -> None:
    """As a run is opened: with the settings of a YAML file, and the weights of a checkpoint."""
    trained = HuggingFaceVideoNet(3, str(_save(kind, tmp_path)), **CLIP).eval()
    settings = yaml.safe_load(yaml.safe_dump(trained.reopening_settings))
    again = build_network(CLASS, given={"num_classes": 3, "channels": 3, **CLIP}, settings=settings).eval()
    again.load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert torch.equal(again(_clips() / 255), trained(_clips() / 255))


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_layers_are_not_trained_and_all_others_are(kind: str, folders: dict[str, Path]) -> None:
    """No weight is left that gets no gradient: several processes would wait for it."""
    network = HuggingFaceVideoNet(3, str(folders[kind]), frozen_layers=1, **CLIP)
    network(_clips() / 255).square().sum().backward()
    trained = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert trained.isdisjoint(frozen)
    assert trained | frozen == set(dict(network.named_parameters()))
    assert {bool(re.search(r"embeddings|layers?\.0\.|predictor", name)) for name in frozen} == {True}
    assert sum("layer.1." in name or "layers.1." in name for name in trained) > 10
    assert not any("embeddings" in name for name in trained)


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_says_what_it_was_trained_on(kind: str, folders: dict[str, Path]) -> None:
    found = HuggingFaceVideoNet.trained(str(folders[kind]), None)
    assert (found.class_names, found.num_frames, found.size) == (CLASSES, 4, (32, 32))
    with pytest.raises(ConfigError, match="brings its weights in its folder: leave out --weights, got w.pt"):
        HuggingFaceVideoNet.trained(str(folders[kind]), "w.pt")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"1": "b", "0": "a"}, ("a", "b")),
        ({"0": "LABEL_0", "1": "LABEL_1"}, None),  # what transformers makes up
        ({"1": "b"}, None),
        (None, None),
    ],
)
def test_class_names_are_the_sources(names: Any, expected: Any, tmp_path: Path) -> None:
    folder = _save("videomae", tmp_path)
    _edit(folder, id2label=names)
    assert HuggingFaceVideoNet.trained(str(folder), None).class_names == expected


def test_nothing_in_a_source_is_run(tmp_path: Path) -> None:
    folder = _save("videomae", tmp_path)
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    _edit(folder, attn_implementation="kernels-community/own", output_attentions=True)
    _edit(folder, auto_map={"AutoConfig": "own.A", "AutoModelForVideoClassification": "own.B"})
    network = HuggingFaceVideoNet(3, str(folder), **CLIP)
    assert network.network.config._attn_implementation == "sdpa"
    assert network(_clips() / 255).shape == (2, 3)
    assert not (tmp_path / "ran").exists()


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert', which classifies no videos; .* has .*videomae"),
        ({"hidden_size": 33}, "no network can be built from it .*not a multiple"),
        ({"hidden_size": 64}, "weights and its config.json are of different networks: .*another shape"),
        ({"num_hidden_layers": 3}, r"different networks: 1\d weights are missing"),
        ({"num_hidden_layers": 1}, r"different networks: 1\d weights are missing, unknown"),
        ({"quantization_config": {"quant_method": "none"}}, "its weights are quantized"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    _edit(_save("videomae", tmp_path), **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        HuggingFaceVideoNet(3, str(tmp_path), **CLIP)
    assert "\n" not in str(caught.value)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("model.safetensors", _cut, "no network can be built from it .*incomplete"),
        ("model.safetensors", Path.unlink, "no network can be built from it .*no file named model.safetensors"),
        ("config.json", Path.unlink, "has no config.json"),
        ("config.json", _cut, "config.json: cannot be read"),
        ("preprocessor_config.json", lambda path: path.write_text("{}"), "expected image_mean and image_std"),
    ],
)
def test_damaged_folders_are_refused(name: str, damage: Any, message: str, tmp_path: Path) -> None:
    damage(_save("videomae", tmp_path) / name)
    with pytest.raises(CheckpointError, match=message):
        HuggingFaceVideoNet(3, str(tmp_path), **CLIP)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://huggingface.co/a/b", "addresses are refused"),
        ("nowhere", "no such folder"),
        ({"hidden_size": 32}, "model_type is None"),
    ],
)
def test_other_sources_are_refused(source: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        HuggingFaceVideoNet(3, source, **CLIP)


def test_an_id_that_cannot_be_downloaded_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentProblem, match="owner/never-there: no such folder, and it could not be downloaded"):
        HuggingFaceVideoNet(3, "owner/never-there", **CLIP)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("videomae", {"num_frames": 8}, r"videomae takes clips of \[C, T, H, W\] = \[3, 4, 32, 32\], got \[3, 8, "),
        ("timesformer", {"size": (32, 48)}, r"got \[3, 4, 32, 48\]; set data.num_frames"),
        ("vivit", {"channels": 1}, r"got \[1, 4, 32, 32\]"),
        ("vjepa2", {"num_frames": 7}, r"vjepa2 takes clips of \[C, T, H, W\] = \[3, 6, 32, 32\]"),
        ("vjepa2", {"frozen_layers": 3}, "vjepa2 has 2 layers that can be frozen, got frozen_layers = 3"),
        ("videomae", {"mean": [0.5, 0.5]}, "a mean and a std above 0 for each of 3 colours"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    kind: str, settings: dict[str, Any], message: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(ConfigError, match=message):
        HuggingFaceVideoNet(3, str(folders[kind]), **CLIP | settings)


def test_v_jepa_2_takes_any_even_number_of_frames(folders: dict[str, Path]) -> None:
    network = HuggingFaceVideoNet(3, str(folders["vjepa2"]), **CLIP | {"num_frames": 8})
    assert network(torch.rand(1, 3, 8, 32, 32)).shape == (1, 3)
    with pytest.raises(ConfigError, match=r"takes videos of shape \[B, 3, 8, 32, 32\]"):
        network(torch.rand(1, 3, 4, 32, 32))


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'vidact\[huggingface\]'"):
        HuggingFaceVideoNet(3, CONFIGS["videomae"] | {"model_type": "videomae"}, **CLIP)
