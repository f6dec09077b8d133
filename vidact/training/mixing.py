"""Mix the clips of a training batch, pixels and labels, by MixUp or CutMix."""

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from vidact.core.errors import ConfigError

LEAST_ALPHA, MOST_ALPHA = 0.01, 100.0  # beyond, λ is 0 or 1, or one half, for all that float32 tells


class Mixing(nn.Module):
    """torchvision's MixUp and CutMix over whole clips; all frames of a clip are mixed alike.

    MixUp (Zhang et al. 2018) gives λx + (1 − λ)x′ and the same of the labels, CutMix (Yun et al. 2019) a box of x′ in
    x and labels by its area. Pairs and λ ~ Beta(α, α) are drawn from torch's global random numbers.

    Args:
        mixup_alpha: Of MixUp's Beta distribution; 0 for never.
        cutmix_alpha: Of CutMix's; with both, each batch is mixed by one of them, at even odds.
        num_classes: K.

    Raises:
        ConfigError: an α that is out of bounds.
    """

    def __init__(self, mixup_alpha: float, cutmix_alpha: float, *, num_classes: int) -> None:
        super().__init__()
        for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if alpha and not LEAST_ALPHA <= alpha <= MOST_ALPHA:
                raise ConfigError(f"--model.{name} is 0 (never), or {LEAST_ALPHA} to {MOST_ALPHA}, got {alpha}")
        ways = [v2.MixUp(alpha=mixup_alpha, num_classes=num_classes)] if mixup_alpha else []
        ways += [v2.CutMix(alpha=cutmix_alpha, num_classes=num_classes)] if cutmix_alpha else []
        self.mix = v2.RandomChoice(ways) if ways else None

    def forward(
        self, video: Float[Tensor, "B C T H W"], label: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B C T H W"], Shaped[Tensor, "B ..."]]:
        """Mix a batch with itself; labels become probabilities [B, K], or stay as they are where nothing is mixed."""
        if self.mix is None:
            return video, label
        mixed, probabilities = self.mix(tv_tensors.Video(video), label)  # torchvision mixes five axes of a Video only
        return mixed.as_subclass(Tensor), probabilities
