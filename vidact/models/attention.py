"""A network with built-in attention: spatial masks, a ConvLSTM, and weights of the frames."""

from jaxtyping import Float
from torch import Tensor, nn

from vidact.core.clips import height_and_width
from vidact.models.layers import Gate, InputLayers, Sum, SumOver, check_input
from vidact.models.recurrent import ConvLSTM, check_side, fold_time, frame_features


class SpatioTemporalAttention(nn.Module):
    """Spatial saliency masks and temporal weights after Meng et al. 2019.

    Meng et al., Interpretable spatio-temporal attention for video action recognition, ICCV workshops 2019:

    1. X_t = CNN(frame t); here a small one, in the paper a ResNet.
    2. M_t = σ(convolutions of X_t), one value in [0, 1] per place; X̃_t = M_t · X_t.
    3. h_t = ConvLSTM(X̃_1 … X̃_t).
    4. w = softmax over t of (Φ_h(h_t) + Φ_x(X̃_t)), Φ linear after averaging over places; context = Σ_t w_t · h_t.
    5. Average over places, linear layer.

    In the paper the weights come before the ConvLSTM: each of its steps reads Σ_t w_t · X̃_t with weights of its own,
    so the order of the frames is lost. Here the ConvLSTM reads the frames in their order, and there is one weight
    per frame.

    Masks and weights are gates: relevance passes through the features alone.

    Args:
        num_classes: K.
        num_frames: T.
        channels: C, 1 for gray and 3 for colour.
        size: Side in pixels, or height and width.
        differences: Whether the network sees frame differences instead of frames.
        widths: Features of the CNN's convolutions; each halves the picture.
        hidden_channels: Features of the ConvLSTM.
        dropout: Share of the averaged context that is dropped in training.
        total_variation: Weight of the masks' total variation in the loss.
        contrast: Weight of the masks' contrast in the loss.
        unimodality: Weight of the frame weights' departure from a single peak in the loss.
    """

    gradcam_layer = "features"  # the masks have convolutions, too, but only weigh these

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        channels: int = 1,
        size: int | tuple[int, int] = 100,
        differences: bool = False,
        widths: tuple[int, int, int] = (16, 32, 64),
        hidden_channels: int = 32,
        dropout: float = 0.5,
        total_variation: float = 1e-5,
        contrast: float = 1e-4,
        unimodality: float = 1.0,
    ) -> None:
        super().__init__()
        self.input_shape = (channels, num_frames, *height_and_width(size))
        check_side(self.input_shape[2:])
        # Read by `scores_and_penalties`, which training calls for networks that have it.
        self.penalty_weights = {
            "total_variation": total_variation,
            "contrast": contrast,
            "unimodality": unimodality,
        }
        self.input = InputLayers(channels, differences=differences)
        self.features = frame_features(channels, widths=widths)
        self.mask = _mask_layers(widths[-1])
        self.masking = Gate()
        self.memory = ConvLSTM(widths[-1], hidden_channels, num_frames=num_frames)
        self.frame_weights = FrameWeights(widths[-1], hidden_channels)
        self.weighting, self.context = Gate(), SumOver(dim=1)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(hidden_channels, num_classes)
        )

    def forward(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B K"]:
        """Score each class (logits)."""
        return self._attend(video)[0]

    def scores_and_penalties(
        self, video: Float[Tensor, "B C T H W"]
    ) -> tuple[Float[Tensor, "B K"], dict[str, Float[Tensor, ""]]]:
        """Score each class, and compute the weighted terms that training adds to the loss, but those of weight 0."""
        scores, masks, weights = self._attend(video)
        terms = {
            "total_variation": lambda: total_variation(masks),
            "contrast": lambda: contrast(masks),
            "unimodality": lambda: unimodality(weights),
        }
        return scores, {name: weight * terms[name]() for name, weight in self.penalty_weights.items() if weight}

    def attention_maps(self, video: Float[Tensor, "B C T H W"]) -> Float[Tensor, "B T H W"]:
        """Compute the masks, enlarged to the video's size (bilinear), times the weight of each frame.

        Call it in eval mode. Values lie in [0, 1], and are at most w_t in frame t. With differences, the
        map of a frame belongs to the difference between it and the one before.
        """
        _, masks, weights = self._attend(video)
        enlarged = nn.functional.interpolate(masks, size=video.shape[3:], mode="bilinear", align_corners=False)
        return enlarged * weights[:, :, None, None]

    def _attend(
        self, video: Float[Tensor, "B C T H W"]
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B T h w"], Float[Tensor, "B T"]]:
        """Compute the scores, the masks and the weights of the frames."""
        check_input(video, self.input_shape)
        features = self.features(fold_time(self.input(video)))
        masks = self.mask(features)
        time = (len(video), self.input_shape[1])
        masked = self.masking(features, masks).unflatten(0, time)
        hidden = self.memory(masked)
        weights = self.frame_weights(hidden, masked)
        # Σ_t w_t · h_t as a gate and a sum: a product with a matrix would hide relevance.
        context = self.context(self.weighting(hidden, weights[:, :, None, None, None]))
        return self.head(context), masks.squeeze(1).unflatten(0, time), weights


class FrameWeights(nn.Module):
    """Weigh the frames: softmax over t of Φ_h(h_t) + Φ_x(X̃_t), each Φ linear after averaging over places.

    Args:
        features: D.
        hidden_channels: F.
    """

    def __init__(self, features: int, hidden_channels: int) -> None:
        super().__init__()
        self.score_hidden = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(hidden_channels, 1))
        self.score_features = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, 1, bias=False))
        self.add, self.softmax = Sum(), nn.Softmax(dim=1)  # modules, so that relevance rules can follow them

    def forward(self, hidden: Float[Tensor, "B T F H W"], features: Float[Tensor, "B T D H W"]) -> Float[Tensor, "B T"]:
        """Compute weights that add up to 1 over the frames of each clip."""
        scores = self.add(self.score_hidden(hidden.flatten(0, 1)), self.score_features(features.flatten(0, 1)))
        weights: Tensor = self.softmax(scores.unflatten(0, hidden.shape[:2]).squeeze(2))
        return weights


def _mask_layers(features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(features, features // 2, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(features // 2),
        nn.ReLU(),
        nn.Conv2d(features // 2, 1, kernel_size=3, padding=1),
        nn.Sigmoid(),
    )


def total_variation(masks: Float[Tensor, "B T H W"]) -> Float[Tensor, ""]:
    """Compute how much neighbouring places of a mask differ: Σ |M[y+1, x] − M[y, x]| + Σ |M[y, x+1] − M[y, x]|.

    Zero for a mask that is the same everywhere.
    """
    return (masks.diff(dim=2).abs().sum() + masks.diff(dim=3).abs().sum()) / len(masks)


def contrast(masks: Float[Tensor, "B T H W"]) -> Float[Tensor, ""]:
    """Compute −½ Σ M·B + ½ Σ M·(1 − B), where B = 1 for M > 0.5 and else 0: as a loss it pushes a mask to 0 and 1.

    From 0 (empty) down to −½ per place (full); it is largest where a mask is undecided, just below 0.5.
    """
    salient = masks > 0.5  # B is a constant: no gradient goes through the comparison
    return (masks * (~salient) - masks * salient).sum() / (2 * len(masks))


def unimodality(weights: Float[Tensor, "B T"]) -> Float[Tensor, ""]:
    """Compute Σ_t max(0, w[t−1]·w[t+1] − w[t]²), zero for a log-concave and therefore single-peaked course.

    A clip of less than three frames has one peak.
    """
    before, here, after = weights[:, :-2], weights[:, 1:-1], weights[:, 2:]
    return (before * after - here**2).clamp(min=0).sum() / len(weights)
