import functools
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn

from vidact.audit.actors import detector
from vidact.audit.actors.detector import PersonDetector
from vidact.audit.actors.people import find_people
from vidact.audit.settings import AuditSettings, with_masks_of_actor
from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.data.datasets.index import Clip
from vidact.data.loading.windows import Window
from vidact.runs.clips.choice import Choice


class Instances(nn.Module):
    """Answers as Mask R-CNN does: two people, one of them unsure, and a dog."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert images[0].dtype == torch.float32
        assert float(images[0].max()) <= 1
        masks = torch.zeros(4, 1, *images[0].shape[1:])
        masks[0, 0, 0, 0], masks[0, 0, 0, 1], masks[1, 0, 2, 2] = 0.5, 0.49, 0.9
        masks[2, 0, 3, 3] = masks[3, 0, 4, 4] = 1
        labels, scores = torch.tensor([1, 1, 1, 18]), torch.tensor([0.9, 0.5, 0.49, 0.99])
        return [{"masks": masks, "labels": labels, "scores": scores}]


def test_the_union_of_the_certain_people_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "load_network", Instances)
    found = PersonDetector().find(torch.full((2, 3, 6, 7), 255, dtype=torch.uint8))
    assert found.nonzero().tolist() == [[frame, at, at] for frame in range(2) for at in (0, 2)]


def test_the_real_network_runs_with_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    small = functools.partial(detector.maskrcnn_resnet50_fpn_v2, min_size=64)  # it enlarges frames to 800 else
    monkeypatch.setattr(detector, "maskrcnn_resnet50_fpn_v2", small)
    random = detector.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).state_dict()
    monkeypatch.setattr(type(detector.WEIGHTS), "get_state_dict", lambda *_, **__: random)
    frames = torch.zeros(1, 3, 20, 30, dtype=torch.uint8)
    assert PersonDetector().find(frames).shape == (1, 20, 30)


def test_weights_that_cannot_be_downloaded_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(EnvironmentProblem, match=r"torchvision: its weights .*no route.*TORCH_HOME") as caught:
        PersonDetector()
    assert "\n" not in str(caught.value)


class Counting:
    """Marks the bright pixels, and counts how often it is asked."""

    digest, asked = "counting", 0

    def find(self, frames: Tensor) -> Tensor:
        self.asked += 1
        return frames.float().mean(dim=1) > 100


def test_what_was_found_is_kept_at_the_clips_own_size(small_set: Path) -> None:
    path = min(small_set.rglob("*.mp4"), default=None) or min(small_set.rglob("*.avi"))
    clip = Clip(path, path.parent.name, 0, "source", None)
    network, window = Counting(), Window(clip, 0, (3, 1, 3), (0.0, 0.0, 0.0), 8)
    first, again = find_people(network, window), find_people(network, window)
    assert network.asked == 1
    assert torch.equal(first, again)
    assert torch.equal(first[0], first[2])
    assert first.any()
    network.digest = "another"
    find_people(network, window)
    assert network.asked == 2


@pytest.mark.parametrize("actor", ["", "person", "pose:", "pose:nowhere.whl", "/no/such/folder", "Torchvision"])
def test_wrong_actors_are_refused_in_one_line(actor: str) -> None:
    with pytest.raises(ConfigError, match="--actor") as caught:
        AuditSettings(actor=actor)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_folder_of_masks_means_the_same_as_masks_folder(tmp_path: Path) -> None:
    settings, choice = with_masks_of_actor(AuditSettings(actor=str(tmp_path)), Choice())
    assert (settings.actor, choice.masks_folder) == ("auto", str(tmp_path))
    assert with_masks_of_actor(settings, choice) == (settings, choice)
    with pytest.raises(ConfigError, match="both"):
        with_masks_of_actor(AuditSettings(actor=str(tmp_path)), Choice(masks_folder=str(tmp_path)))
