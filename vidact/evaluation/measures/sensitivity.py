"""Measure how faithful (infidelity), how stable (max-sensitivity) and how sparse explanations are."""

from collections.abc import Callable

import torch
from captum.metrics import sensitivity_max
from jaxtyping import Bool, Float
from torch import Tensor

from vidact.core.errors import VidactError
from vidact.evaluation.measures.maps import check_map, check_pair, rows

Score = Callable[[Float[Tensor, "B C T H W"]], Float[Tensor, " B"]]
Explain = Callable[[Float[Tensor, "B C T H W"]], Float[Tensor, "B C T H W"]]
Fill = Callable[[Bool[Tensor, "B T H W"]], Float[Tensor, "B C T H W"]]
"""From the voxels that are removed to the pixels that take their place."""


def infidelity(
    score: Score,
    video: Float[Tensor, "B C T H W"],
    *,
    relevance: Float[Tensor, "B C T H W"],
    fill: Fill,
    generator: torch.Generator,
    local: bool = False,
    num_samples: int = 50,
    scale: bool = True,
) -> Float[Tensor, " B"]:
    """Compute the mean squared error of an explanation as a prediction of what removals cost (Yeh et al. 2019, eq. 1).

    INFD = E[(β·p − (f(x) − f(x′)))²], where x′ is the clip with a random box of voxels replaced (their square removal,
    in space and time; sides from one voxel to half of the clip, rounded up) and p what the explanation gives the box:
    its relevance or, where relevance is per unit of input, the sum of R · (x − x′).

    Args:
        score: The explained function, f.
        video: In [0, 1].
        relevance: The explanation, with its colours.
        fill: What replaces the removed voxels.
        generator: Draws the boxes, different ones for each clip.
        local: Whether relevance is per unit of input, as gradients are; else it is a share of the score.
        num_samples: How many boxes.
        scale: Whether β is the factor that makes the error least (theirs, and captum's `normalize`), so that methods
            of different units can be compared; else it is 1.

    Returns:
        In squared units of the score; 0 is best. A relevance of 0 everywhere gives E[(f(x) − f(x′))²].

    Raises:
        VidactError: relevance of another shape, values that are not finite, or no samples.
    """
    check_pair(relevance, video)
    _check_samples(num_samples)
    with torch.no_grad():
        before = score(video).double()
        said, happened = [], []
        for _ in range(num_samples):
            removed = random_boxes(video, generator=generator)
            without = torch.where(removed[:, None], fill(removed), video)
            weight = video - without if local else removed[:, None].expand_as(video).to(relevance)
            said.append((rows(relevance) * rows(weight)).sum(dim=1))
            happened.append(before - score(without).double())
    predicted, actual = torch.stack(said, dim=1), torch.stack(happened, dim=1)  # [B, samples]
    if scale:
        norm = predicted.square().sum(dim=1, keepdim=True)
        factor = torch.where(norm > 0, (predicted * actual).sum(dim=1, keepdim=True) / norm, 0)
        predicted = factor * predicted
    error: Tensor = (predicted - actual).square().mean(dim=1)
    return error


def random_boxes(video: Float[Tensor, "B C T H W"], *, generator: torch.Generator) -> Bool[Tensor, "B T H W"]:
    """Draw a box of voxels in each clip, with sides from one voxel to half of the clip's, rounded up."""
    shape = (3, 2, len(video))
    draws = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64).to(video.device)
    inside = []
    for size, (for_length, for_start) in zip(video.shape[2:], draws, strict=True):
        length = 1 + (for_length * -(-size // 2)).long()
        start = (for_start * (size - length + 1)).long()
        places = torch.arange(size, device=video.device)
        inside.append((places >= start[:, None]) & (places < (start + length)[:, None]))  # [B, size]
    time, height, width = inside
    boxes: Tensor = time[:, :, None, None] & height[:, None, :, None] & width[:, None, None, :]
    return boxes


def max_sensitivity(
    explain: Explain,
    video: Float[Tensor, "B C T H W"],
    *,
    generator: torch.Generator,
    radius: float = 0.02,
    num_samples: int = 10,
) -> Float[Tensor, " B"]:
    """Compute how much an explanation changes when the clip changes a little (Yeh et al. 2019, eq. 5), through captum.

    max over x′ of ‖Φ(x′) − Φ(x)‖ / ‖Φ(x)‖, where x′ is x with uniform noise of at most `radius` in each value, kept
    in [0, 1]. Dividing by the norm of Φ(x), so that methods of different units can be compared, is captum's addition.

    Args:
        explain: Computes the relevance of clips.
        video: In [0, 1].
        generator: Draws the noise.
        radius: How far a value may change.
        num_samples: How many x′.

    Returns:
        From 0; NaN where the explanation of x is 0 everywhere.

    Raises:
        VidactError: a radius below 0, no samples, or relevance that is not finite.
    """
    _check_samples(num_samples)
    if radius < 0:
        raise VidactError(f"a radius is at least 0, got {radius:g}")
    if not len(video):
        return video.new_empty(0)
    norms: list[Tensor] = []

    def explained(inputs: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        found = explain(inputs[0] if isinstance(inputs, tuple) else inputs)  # captum wraps the clip itself
        check_map(found)
        norms.append(found.flatten(1).norm(dim=1))
        return (found,)  # a tensor alone would be taken for a tuple of clips

    def near(inputs: Tensor) -> Tensor:
        noise = torch.rand(inputs.shape, generator=generator, device=generator.device).to(inputs)
        return (inputs + (2 * noise - 1) * radius).clamp(0, 1)

    found: Tensor = sensitivity_max(
        explained, video, perturb_func=near, n_perturb_samples=num_samples, max_examples_per_batch=len(video)
    )
    return torch.where(norms[0] > 0, found, torch.nan)


def sparseness(relevance: Float[Tensor, " B *shape"]) -> Float[Tensor, " B"]:
    """Compute the Gini index of |R| over voxels (Chalasani et al. 2020): 0 where all are equal.

    Returns:
        From 0 to 1 − 1/N, where one of N voxels has all; NaN where the map is 0 everywhere.

    Raises:
        VidactError: values that are not finite.
    """
    check_map(relevance)
    values = rows(relevance).abs().sort(dim=1).values
    values = values / values[:, -1:]
    count = values.shape[1]
    weight = 2 * torch.arange(1, count + 1, device=values.device, dtype=values.dtype) - count - 1
    return (weight * values).sum(dim=1) / (count * values.sum(dim=1))


def _check_samples(num_samples: int) -> None:
    if num_samples < 1:
        raise VidactError(f"expected at least 1 sample, got {num_samples}")
