"""Sum relevance per voxel and per frame, and count hotspots; `core.explanation` says what a hotspot is."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidact.attribution.names import HOTSPOT_THRESHOLD
from vidact.core.explanation import find_hotspots


def voxel_relevance(relevance: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B T H W"]:
    """Sum relevance over colour: one signed value per voxel."""
    return relevance.sum(dim=1)


def frame_relevance(
    relevance: Float[Tensor, "B C T H W"],
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Sum the relevance of each frame's voxels, what speaks for the target and what speaks against it apart.

    Returns:
        The positive part (≥ 0) and the negative part (≤ 0); their sum is the frame's relevance.
    """
    voxels = voxel_relevance(relevance)
    return voxels.clamp(min=0).sum(dim=(2, 3)), voxels.clamp(max=0).sum(dim=(2, 3))


def hotspots(relevance: Float[Tensor, "B C T H W"], *, threshold: float = HOTSPOT_THRESHOLD) -> Bool[Tensor, "B T H W"]:
    """Find the voxels whose relevance is at least `threshold` of the clip's largest |R|.

    A clip without any relevance has no hotspots.
    """
    voxels = voxel_relevance(relevance)
    largest = voxels.abs().amax(dim=(1, 2, 3), keepdim=True)
    return find_hotspots(voxels, largest=largest, threshold=threshold)


def hotspots_per_frame(spots: Bool[Tensor, "B T H W"]) -> Int[Tensor, "B T"]:
    """Count the hotspot voxels of each frame."""
    return spots.sum(dim=(2, 3))
