"""Grad-CAM: explain a score by the feature maps of one layer, in space and time."""

from collections import Counter
from typing import Any

import torch
from captum.attr import LayerGradCam
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from vidact.attribution.base import Explainer
from vidact.attribution.targets import Goal
from vidact.core.errors import ConfigError, nearest
from vidact.core.networks import NamesGradCamLayer, module_names


class GradCam(Explainer):
    """Weights the feature maps of a layer by their mean gradient (Selvaraju et al. 2017), through captum.

    α_k = mean over positions of ∂f/∂A_k, R = max(0, Σ_k α_k A_k), brought to the video's size by trilinear
    interpolation and spread evenly over the colours. The positions are those of a feature map A_k:
    [B, K, T', H', W'], space and time together; [B·n, K, H', W'], where the network folds time into the batch, each
    of the n frames by itself; [B, K, H', W'], where frames are channels of one picture: that map says nothing about
    time, and every frame gets the same.

    Args:
        network: As in `Explainer`.
        layer: A module's name. None for the last convolution whose output is still a picture and which stands for
            all frames, not for one step of an unrolled recurrence (or what the network itself names, `gradcam_layer`).
        rectified: Whether to drop negative values, which speak against the target, as the paper does.
        settings: As in `Explainer`.

    Raises:
        ConfigError: no such layer.
    """

    method = "grad_cam"

    def __init__(
        self, network: nn.Module, *, layer: str | None = None, rectified: bool = True, **settings: Any
    ) -> None:
        super().__init__(network, **settings)
        names = [name for name in module_names(network) if name]
        if layer is not None and layer not in names:
            near = nearest(layer, names) or names[:8]
            raise ConfigError(f"the network has no layer {layer!r}; nearest: {', '.join(near)}")
        self._layer_name, self._rectified = layer, rectified
        self._layer: nn.Module | None = None

    def __exit__(self, *error: Any) -> None:
        self._layer = None  # it belongs to the copy that is dropped now
        super().__exit__(*error)

    def _prepare(self, video: Float[Tensor, "1 C T H W"]) -> None:
        if self._layer is None:
            shapes = _output_shapes(self._copy, video)
            own = self._copy.gradcam_layer if isinstance(self._copy, NamesGradCamLayer) else None
            name = self._layer_name or own or _last_convolution(self._copy, shapes)
            calls = shapes.get(name, [])
            if len(calls) != 1 or not _are_pictures(calls[0]):
                raise ConfigError(
                    f"Grad-CAM needs a layer that is called once and gives pictures, [B, K, H, W] or [B, K, T, H, W]; "
                    f"{name!r} is called {len(calls)} times and gives {[list(shape) for shape in calls[:1]]}; "
                    "name another layer"
                )
            self._layer = self._copy.get_submodule(name)

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        with torch.no_grad():
            scores = self._copy(video)
        weights = goal.weights(scores)
        # One clip at a time: what then stands along the first dimension is time.
        maps = [self._map(clip[None], own) for clip, own in zip(video, weights, strict=True)]
        return (torch.cat(maps) / video.shape[1]).expand_as(video), scores

    def _map(self, clip: Float[Tensor, "1 C T H W"], weights: Float[Tensor, " K"]) -> Float[Tensor, "1 1 T H W"]:
        """Compute one clip's map at the size of the video."""

        def value(points: Tensor) -> Tensor:
            scores: Tensor = self._copy(points)
            return (scores * weights).sum(dim=1)

        maps = LayerGradCam(value, self._layer).attribute(
            clip.requires_grad_(), relu_attributions=self._rectified
        )  # [n, 1, H', W'] or [n, 1, T', H', W']
        frames = maps.unsqueeze(2) if maps.ndim == 4 else maps
        in_time = torch.cat(list(frames.detach()), dim=1)[None]  # [1, 1, n·T', H', W']
        return F.interpolate(in_time, size=tuple(clip.shape[2:]), mode="trilinear", align_corners=False)


def _output_shapes(network: nn.Module, video: Float[Tensor, "1 C T H W"]) -> dict[str, list[torch.Size]]:
    """Run the network, and record the shape of every output of every module, by name, in the order of the calls."""
    shapes: dict[str, list[torch.Size]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes.setdefault(name, []).append(output.shape)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in network.named_modules()]
    try:
        with torch.no_grad():
            network(video)
    finally:
        for handle in handles:
            handle.remove()
    return shapes


def _are_pictures(shape: torch.Size) -> bool:
    """Say whether one clip's output is [n, K, H, W] or [1, K, T, H, W]; attention has [heads, K, T, H, W] as well."""
    return len(shape) == 4 or (len(shape) == 5 and shape[0] == 1)


def _last_convolution(network: nn.Module, shapes: dict[str, list[torch.Size]]) -> str:
    """Name the last convolution in calling order that gives pictures of more than one pixel for all frames.

    Raises:
        ConfigError: there is none.
    """
    convolutions = {name: module for name, module in network.named_modules() if isinstance(module, _ConvNd)}
    places = Counter(id(module.weight) for module in convolutions.values())  # steps of a recurrence share theirs
    found = [
        name
        for name, calls in shapes.items()
        if name in convolutions
        and places[id(convolutions[name].weight)] == 1
        and _are_pictures(calls[0])
        and calls[0][-2:].numel() > 1
    ]
    if not found:
        raise ConfigError("Grad-CAM found no convolution that gives pictures; name a layer")
    return found[-1]
