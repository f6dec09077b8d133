"""Explain a score by gradients: plain, times input, smoothed, integrated, or guided.

All differentiate Σ_k w_k f_k, the logit or the difference of logits that is explained (`targets.class_weights`).
"""

import zlib
from collections.abc import Callable
from typing import Any

import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from jaxtyping import Float
from torch import Tensor, nn

from vidact.attribution.account import account_of_sum
from vidact.attribution.base import Explainer, mean_picture, subtracted_mean
from vidact.attribution.targets import Goal
from vidact.core.errors import ConfigError
from vidact.core.explanation import Account


class Gradient(Explainer):
    """Measures how the score changes with each voxel: R = ∂f/∂x, signed (Simonyan et al. 2013 show |∂f/∂x|).

    Args:
        network: As in `Explainer`.
        settings: As in `Explainer`.
    """

    method = "gradient"

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        return self._backpropagate(video, goal.weights)


class _FromBaseline(Explainer):
    """Base of methods that compare each voxel with a neutral value, the baseline.

    Args:
        network: As in `Explainer`.
        baseline: The neutral value, in [0, 1]; None for the mean that the network subtracts (`Normalisation`) or,
            where it subtracts none, the default of the method.
        settings: As in `Explainer`.
    """

    def __init__(self, network: nn.Module, *, baseline: float | None = None, **settings: Any) -> None:
        super().__init__(network, **settings)
        self._baseline = baseline

    def _start(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B C T H W"]:
        if self._baseline is None:
            return self._neutral(video).expand_as(video)
        return torch.full_like(video, self._baseline)

    def _account(self, relevance: Float[Tensor, "B C T H W"], score: Float[Tensor, " B"]) -> Account:
        return account_of_sum(relevance, score)

    def _neutral(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "#B #C 1 1 1"]:
        """Choose the neutral pixel where no baseline is given: the network's mean, else that of each clip."""
        return mean_picture(self._copy, video)


class GradientTimesInput(_FromBaseline):
    """R = (x − x₀) · ∂f/∂x (Shrikumar et al. 2016, where x₀ = 0 is what the network sees after normalisation).

    Where the network subtracts no mean, x₀ = 0, unless `baseline` says otherwise. It equals LRP-0 for networks of ReLU,
    max-pooling and linear layers without biases (Ancona et al. 2018).
    """

    method = "gradient_x_input"

    def _neutral(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "#B #C 1 1 1"]:
        mean = subtracted_mean(self._copy)
        return torch.zeros_like(video[:1, :, :1, :1, :1]) if mean is None else mean.to(video)

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        gradient, scores = self._backpropagate(video, goal.weights)
        return (video - self._start(video)) * gradient, scores


class IntegratedGradients(_FromBaseline):
    """R = (x − x₀) · ∫₀¹ ∂F/∂x (x₀ + α (x − x₀)) dα (Sundararajan et al. 2017, eq. 1), through captum.

    F is `targets.contrast`, so that ΣR = F(x) − F(x₀); where a log-odds is explained, it is that itself.

    Args:
        network: As in `Explainer`.
        num_steps: How many points of the path (Gauss-Legendre).
        settings: `baseline`, a value in [0, 1] (None for the mean that the network subtracts, or each clip's own mean
            where it subtracts none), and as in `Explainer`.

    Raises:
        ConfigError: no step.
    """

    method = "integrated_gradients"

    def __init__(self, network: nn.Module, *, num_steps: int = 32, **settings: Any) -> None:
        super().__init__(network, **settings)
        at_least_one("num_steps", num_steps)
        self._num_steps = num_steps

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        def value(points: Tensor, target: Tensor, against: Tensor | None) -> Tensor:
            return Goal(target, against).value(self._copy(points))

        with torch.no_grad():
            scores = self._copy(video)
        relevance = CaptumIntegratedGradients(value, multiply_by_inputs=True).attribute(
            video,
            baselines=self._start(video),
            additional_forward_args=(goal.target, goal.against),
            n_steps=self._num_steps,
            internal_batch_size=len(video),  # one point of the path at a time
        )
        return relevance, scores


class SmoothGrad(Explainer):
    """Averages the gradient over noisy copies of the clip: R = 1/N Σ_n ∂f/∂x (x + ε_n) (Smilkov et al. 2017).

    The noise is drawn per clip, from a generator that is seeded with the seed and the clip itself: captum's and
    Zennit's draw from the global generator, and a clip's noise depends on its place in the batch.

    Args:
        network: As in `Explainer`.
        num_samples: N.
        noise_level: σ, as a share of the clip's range max − min.
        seed: Of the noise.
        settings: As in `Explainer`.

    Raises:
        ConfigError: no sample, or a negative noise.
    """

    method = "smoothgrad"

    def __init__(
        self, network: nn.Module, *, num_samples: int = 25, noise_level: float = 0.15, seed: int = 0, **settings: Any
    ) -> None:
        super().__init__(network, **settings)
        at_least_one("num_samples", num_samples)
        if noise_level < 0:
            raise ConfigError(f"noise_level is a share of the clip's range, 0 or more, got {noise_level}")
        self._num_samples, self._noise_level, self._seed = num_samples, noise_level, seed

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        with torch.no_grad():
            scores = self._copy(video)
        sigma = self._noise_level * (video.amax(dim=(1, 2, 3, 4)) - video.amin(dim=(1, 2, 3, 4)))
        draw = noise(video, seed=self._seed)
        total = torch.zeros_like(video)
        for _ in range(self._num_samples):
            total += self._backpropagate(video + sigma[:, None, None, None, None] * draw(), goal.weights)[0]
        return total / self._num_samples, scores


class GuidedBackpropagation(Explainer):
    """Computes the gradient with every ReLU passing on its positive part only (Springenberg et al. 2015).

    For a ReLU's call x ↦ y: ∂/∂x = ∂/∂y · [x > 0] · [∂/∂y > 0]. It covers `nn.ReLU`, also where a module is
    called several times or works in place (captum allows one call per module). A functional ReLU (`F.relu`,
    `x.relu()`) passes on the plain gradient.

    Raises:
        ConfigError: the network has no `nn.ReLU`.
    """

    method = "guided_backpropagation"

    def __enter__(self) -> "Explainer":
        if not any(isinstance(module, nn.ReLU) for module in self._network.modules()):
            raise ConfigError("guided backpropagation needs nn.ReLU modules, this network has none; try gradient")
        super().__enter__()
        for module in self._copy.modules():
            if isinstance(module, nn.ReLU):
                module.register_forward_hook(_let_positive_pass)
        return self

    def _explain(
        self, video: Float[Tensor, "B C T H W"], goal: Goal
    ) -> tuple[Float[Tensor, "B C T H W"], Float[Tensor, "B K"]]:
        return self._backpropagate(video, goal.weights)


def _let_positive_pass(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    if output.requires_grad:
        output.register_hook(lambda gradient: gradient.clamp(min=0))  # type: ignore[no-untyped-call]


def noise(video: Float[Tensor, "B C T H W"], *, seed: int) -> Callable[[], Float[Tensor, "B C T H W"]]:
    """Build a function that draws standard normal noise for clips, the same for a clip at any place in the batch.

    Args:
        video: In [0, 1]; clips that are equal to 1/255 get equal noise.
        seed: Of the noise.
    """
    pixels = (video.detach() * 255).round().int().cpu().numpy()
    generators = [torch.Generator().manual_seed(zlib.crc32(clip.tobytes(), seed)) for clip in pixels]

    def draw() -> Float[Tensor, "B C T H W"]:
        # Drawn on the CPU, so that it is the same on every device.
        return torch.stack([torch.randn(video.shape[1:], generator=each) for each in generators]).to(video)

    return draw


def at_least_one(name: str, value: int) -> None:
    """Make sure that a setting is 1 or more.

    Raises:
        ConfigError: it is not.
    """
    if value < 1:
        raise ConfigError(f"{name} must be at least 1, got {value}")
