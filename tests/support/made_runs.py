"""Makes up runs to report on: rendered clips, relevance that follows what moves, no network."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from vidact.data.synthetic.clips import SyntheticSettings, render_clip
from vidact.data.synthetic.motions import CLASS_NAMES
from vidact.report.contents import ClipView, Interval, Outcome, RelevanceView, RunView
from vidact.report.findings.contents import Picture

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 100"><path d="M0 99 L300 1" stroke="#1f5fa8"/></svg>'


def render(class_name: str, *, seed: int, num_frames: int = 16, size: int = 64) -> UInt8[np.ndarray, "3 T H W"]:
    frames = render_clip(
        class_name, settings=SyntheticSettings(num_frames=num_frames, size=(size, size), seed=seed)
    ).video
    return np.ascontiguousarray(frames.transpose(3, 0, 1, 2))


def moving_relevance(video: UInt8[np.ndarray, "3 T H W"], *, seed: int) -> Float[np.ndarray, "T H W"]:
    """Differences between frames, for in front of motion and against behind it, and a little noise everywhere."""
    gray = video.mean(axis=0) / 255
    change = np.gradient(gray, axis=0)
    noise = np.random.default_rng(seed).normal(0, 0.02, gray.shape)
    relevance = np.sign(change) * change**2 + 0.4 * change**2 + noise * change.std() ** 2
    return np.asarray(relevance / np.abs(relevance.sum()) * 4, dtype=np.float32)


def make_clip(
    clip_id: str,
    *,
    true_class: str | None,
    predicted: str,
    methods: Sequence[str] = ("lrp:epsilon_plus", "gradient_x_input"),
    seed: int = 0,
    num_frames: int = 16,
    size: int = 64,
) -> ClipView:
    video = render(predicted if predicted in CLASS_NAMES else "left", seed=seed, num_frames=num_frames, size=size)
    targets = [("predicted", predicted)]
    if true_class is not None and true_class != predicted:
        targets.append(("true", true_class))
    explanations = []
    for number, method in enumerate(methods):
        for role, target in [*targets, ("chosen", "left vs right")]:
            place = seed + 10 * number + len(explanations)
            relevance = moving_relevance(video, seed=place) * (-1 if role == "true" else 1)
            conservation = 0.999 if method.startswith("lrp") else None
            explanations.append(
                RelevanceView(method, target, role, 4.2 - place % 3, conservation, relevance, "units of the logit")
            )
    others = [name for name in CLASS_NAMES if name != predicted][:4]
    top = 0.35 + 0.6 * ((7 * seed) % 10) / 10
    shares = [top, *((1 - top) * share for share in (0.5, 0.25, 0.15, 0.1))]
    numbers = 2 * np.arange(num_frames)
    probabilities = tuple(zip([predicted, *others], shares, strict=True))
    return ClipView(clip_id, true_class, probabilities, video, numbers, numbers / 30, tuple(explanations))


def make_outcomes(*, num_clips: int = 120, seed: int = 0, num_classes: int = len(CLASS_NAMES)) -> tuple[Outcome, ...]:
    generator = np.random.default_rng(seed)
    outcomes = []
    for number in range(num_clips):
        true = number % num_classes
        is_right = generator.random() < 0.72
        predicted = true if is_right else int(generator.integers(num_classes))
        name = f"{CLASS_NAMES[true]}/{number:04d}_scene_{CLASS_NAMES[true]}_f_nm_np1_fr_goo_0"
        outcomes.append(Outcome(name, true, predicted, float(generator.uniform(0.3, 1))))
    return tuple(outcomes)


def make_run(
    name: str = "version_0",
    *,
    clips: Sequence[ClipView] | None = None,
    seed: int = 0,
    num_clips: int = 16,
    pictures: Sequence[Picture] = (Picture("Training curves", "loss falls from 2.1 to 0.4", SVG),),
) -> RunView:
    """Make up a run on the eight synthetic classes."""
    outcomes = make_outcomes(seed=seed)
    if clips is None:
        picked = [o for o in outcomes if o.true == o.predicted][: num_clips * 5 // 8]
        picked += [o for o in outcomes if o.true != o.predicted][: num_clips - len(picked)]
        clips = [
            make_clip(o.clip_id, true_class=CLASS_NAMES[o.true], predicted=CLASS_NAMES[o.predicted], seed=number)
            for number, o in enumerate(picked)
        ]
    right = sum(o.true == o.predicted for o in outcomes) / len(outcomes)
    per_class = []
    for number, class_name in enumerate(CLASS_NAMES):
        mine = [o.predicted == number for o in outcomes if o.true == number]
        share = sum(mine) / len(mine)
        per_class.append((class_name, Interval(share, max(0.0, share - 0.2), min(1.0, share + 0.15), len(mine))))
    return RunView(
        name=name,
        part="validation",
        class_names=CLASS_NAMES,
        accuracy=Interval(right, right - 0.08, right + 0.07, len(outcomes)),
        chance=1 / len(CLASS_NAMES),
        baselines=(("tags", 0.429), ("clip length", 0.2)),
        facts=(
            ("network", "StackedFramesCNN, pooled head, 0.21 M parameters"),
            ("input", "16 gray frames, stride 2, 50×50 pixels"),
            ("data", "synthetic, 8 classes, 1280 clips"),
            ("training", "50 epochs, Adam, learning rate 0.003, best epoch 47"),
        ),
        split=(
            ("scheme", "source video"),
            ("clips", "768 training, 120 validation, 384 test"),
            ("sources on two sides", "none"),
            ("equal files on two sides", "none"),
        ),
        conservation=(
            ("method", "lrp, epsilon_plus"),
            ("ΣR / score", "0.999 to 1.001 over 16 clips"),
        ),
        per_class=tuple(per_class),
        outcomes=outcomes,
        pictures=tuple(pictures),
        clips=tuple(clips),
        config="seed_everything: 0\ntrainer:\n  max_epochs: 50\nmodel:\n  network: StackedFramesCNN\n",
        left_out=("walk/broken.avi: no frame could be decoded",),
    )
