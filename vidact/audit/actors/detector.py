"""Find people in frames with torchvision's Mask R-CNN; torchvision downloads its weights."""

import contextlib
import hashlib
import sys
from pathlib import Path
from urllib.parse import urlparse

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_V2_Weights, maskrcnn_resnet50_fpn_v2

from vidact.core.errors import EnvironmentProblem, in_one_line

PERSON = 1  # COCO's number
LEAST_SCORE, LEAST_SHARE = 0.5, 0.5
WEIGHTS = MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1


class PersonDetector:
    """Marks all people in each frame.

    Raises:
        EnvironmentProblem: the weights cannot be downloaded.
    """

    def __init__(self) -> None:
        self.digest = hashlib.sha256(WEIGHTS.url.encode()).hexdigest()  # torchvision writes theirs into the address
        self._network = load_network().eval()

    @torch.no_grad()
    def find(self, frames: UInt8[Tensor, "T 3 H W"]) -> Bool[Tensor, "T H W"]:
        """Mark the people: the union of all instances whose score is 0.5 or more."""
        masks = []
        for frame in frames:  # one by one: a batch takes gigabytes
            found = self._network([frame.float() / 255])[0]
            people = (found["labels"] == PERSON) & (found["scores"] >= LEAST_SCORE)
            masks.append((found["masks"][people, 0] >= LEAST_SHARE).any(dim=0))
        return torch.stack(masks)


def load_network() -> nn.Module:
    """Build the network with its trained weights, from torchvision's cache or the network.

    Raises:
        EnvironmentProblem: they cannot be downloaded, or are damaged.
    """
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(WEIGHTS.url).path).name
    try:
        with contextlib.redirect_stdout(sys.stderr):
            state = WEIGHTS.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu")
        network: nn.Module = maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
        network.load_state_dict(state)
    except Exception as error:  # torch raises a dozen kinds for damaged bytes, and urllib as many
        raise EnvironmentProblem(
            f"--actor torchvision: its weights could not be brought from {WEIGHTS.url} ({in_one_line(error)}); "
            f"download them by hand to {place} (TORCH_HOME moves it; a damaged file is to be deleted), or choose "
            "another --actor"
        ) from error
    return network
