"""`inspect`: say which parts of a network relevance rules cannot follow, and where its relevance goes.

Heavy imports happen when the verb runs, so that its help answers at once.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vidact.core.errors import ConfigError
from vidact.core.terminal import printable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vidact.attribution.gradient_form.calls import Refusal
    from vidact.attribution.lrp.obstacles import Obstacle
    from vidact.core.explanation import Explanation

NUM_CLIPS = 2  # of noise


@dataclass(frozen=True)
class NetworkShape:
    """What goes into a network and comes out of it.

    Attributes:
        num_classes: Passed to the network's constructor where it takes such an argument, as fit does.
        num_frames: As num_classes.
        size: Side of the frames in pixels, or height and width as '[64, 80]'; as num_classes.
        channels: 1 for gray, 3 for colour; as num_classes.
    """

    num_classes: int = 5
    num_frames: int = 16
    size: int | tuple[int, int] = 100
    channels: int = 1

    def __post_init__(self) -> None:
        _check_at_least_1(**asdict(self))


def inspect_network(
    network: str,
    *,
    shape: NetworkShape,
    init: dict[str, Any] | None = None,
    ckpt_path: str | None = None,
    composite: str = "auto",
    video: str | None = None,
    stride: int = 2,
    seed: int = 0,
    trust: str | None = None,
) -> int:
    """Say whether relevance can follow a network, what it cannot follow and what to do, and where its relevance goes.

    Exit status 0 if nothing hides relevance and the account closes (voxels, biases and all else that takes relevance
    add up to the score), else 1. The network's module is imported: its code is run.

    Args:
        network: Class path of an nn.Module, as my_module.Net, where modules in the current folder are found; or a run
            folder or checkpoint, whose settings and weights count.
        shape: Of its input and output; those of a run are its own.
        init: More arguments of its constructor, as '{"head": "pooled"}'.
        ckpt_path: A checkpoint that fit has written; random weights if not given.
        composite: Which relevance rules, by name or as a YAML file; auto for epsilon_plus where rules on modules can
            follow the network, else cp_lrp, which follows any code.
        video: A video file to run it on; seeded noise if not given.
        stride: Distance between two frames of the video.
        seed: Of the noise, and of the random weights.
        trust: Modules whose code a run's config may name, as my_net or my_net,other.nets.
    """
    from pathlib import Path

    from vidact.attribution.lrp.checks import find_obstacles
    from vidact.attribution.lrp.composites import suited_composites
    from vidact.attribution.names import AUTO, CP_LRP, DEFAULT_COMPOSITE
    from vidact.attribution.registry import check_composite, is_in_gradient_form
    from vidact.core.clips import height_and_width
    from vidact.runs.checkpoints import find_checkpoint, load_weights

    check_composite(composite)  # before anything slow
    _check_at_least_1(stride=stride)
    if Path(network).exists():
        built, shape = _open(network, trust)
    else:
        built = _build(network, asdict(shape), init or {}, seed=seed)
    if ckpt_path is not None:
        load_weights(built, find_checkpoint(ckpt_path, [Path("runs")]))
    clip_shape = (shape.channels, shape.num_frames, *height_and_width(shape.size))
    clips = _noise(clip_shape, seed) if video is None else _read(video, clip_shape, stride)
    head = _head(built, network, clips, source=printable(video or "noise"))
    obstacles = () if is_in_gradient_form(composite) else find_obstacles(built, clips[:1])
    hiding = sum(obstacle.hides_relevance for obstacle in obstacles)
    if composite == AUTO and hiding:
        reasons = f"{hiding} reasons" if hiding > 1 else "a reason"
        head += f"\nrules on modules cannot follow it, for {reasons}: see --composite {DEFAULT_COMPOSITE}"
        composite = CP_LRP
    if is_in_gradient_form(composite):
        told, closes = _in_gradient_form(built, clips, composite)
        print("\n".join([head, "", *told]))
        return int(not closes)
    table, closes = _table(built, clips, DEFAULT_COMPOSITE if composite == AUTO else composite)
    suited = f"composites that suit it: {', '.join(suited_composites(built))}"
    print("\n".join([head, "", *_describe(obstacles), "", suited, "", table]))
    return int(not closes or hiding > 0)


def _check_at_least_1(**settings: int | tuple[int, int]) -> None:
    for name, value in settings.items():
        if min((value,) if isinstance(value, int) else value) < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")


def _open(run: str, trust: str | None) -> "tuple[nn.Module, NetworkShape]":
    """Open a run, with the shape of its clips."""
    from vidact.core.clips import height_and_width
    from vidact.runs.run import open_run
    from vidact.runs.trust import parse_modules

    opened = open_run(run, trust=parse_modules(trust))
    data = opened.data_settings
    channels, size = 1 if data["gray"] else 3, height_and_width(data["size"])
    return opened.network, NetworkShape(len(opened.class_names), data["num_frames"], size, channels)


def _build(path: str, given: dict[str, Any], init: dict[str, Any], *, seed: int) -> "nn.Module":
    """Build a network with seeded weights; modules in the current folder are found."""
    import sys
    from pathlib import Path

    import torch

    from vidact.runs.building import build_network

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_network(path, given=given, settings=init)


def _noise(shape: tuple[int, int, int, int], seed: int) -> "Tensor":
    import torch

    return torch.rand((NUM_CLIPS, *shape), generator=torch.Generator().manual_seed(seed))


def _read(file: str, shape: tuple[int, int, int, int], stride: int) -> "Tensor":
    """Read the window in the middle of a video file."""
    from pathlib import Path

    from vidact.core.clips import as_float
    from vidact.core.errors import DataError
    from vidact.data.checks.inspection import inspect_clips
    from vidact.data.video.reading import read_frames
    from vidact.data.video.sampling import windows

    channels, num_frames, height, width = shape
    if channels not in {1, 3}:
        raise DataError(f"--video is gray or colour: --channels 1 or 3, got {channels}")
    found = inspect_clips([path := Path(file)], decoder="pyav")[path]
    if found.info is None:
        raise DataError(f"{file}: {found.reason}")
    (frames,) = windows(found.info.num_frames, num_frames=num_frames, stride=stride, num_windows=1)
    return as_float(read_frames(path, frames, size=(height, width), gray=channels == 1, decoder="pyav")[None])


def _head(network: "nn.Module", path: str, video: "Tensor", *, source: str) -> str:
    num_weights = sum(parameter.numel() for parameter in network.parameters())
    return f"{path}: {num_weights:,} weights; input {list(video.shape)} ({source})"


def _describe(obstacles: "tuple[Obstacle, ...]") -> list[str]:
    hiding = [f"- {obstacle}" for obstacle in obstacles if obstacle.hides_relevance]
    notes = [f"- {obstacle}" for obstacle in obstacles if not obstacle.hides_relevance]
    lines = [
        f"relevance would be wrong, for {len(hiding)} reasons:" if len(hiding) > 1 else "relevance would be wrong:"
    ]
    if hiding:
        lines += [*hiding, "relevance in gradient form may follow it as it is: try --composite cp_lrp"]
    else:
        lines = ["explainable: relevance rules can follow every step of this network"]
    return [*lines, "", "notes:", *notes] if notes else lines


def _in_gradient_form(network: "nn.Module", video: "Tensor", composite: str) -> tuple[list[str], bool]:
    """Say what relevance in gradient form cannot follow or, where it follows all, how the score is divided up."""
    import torch

    from vidact.attribution.account import in_words, mean_parts
    from vidact.attribution.gradient_form.explainer import GradientForm
    from vidact.core.errors import NetworkError

    def explained(dtype: torch.dtype) -> "tuple[list[Refusal], Explanation | None]":
        with GradientForm(network, composite=composite, check_network=False, dtype=dtype, refine=False) as explain:
            explain.prepare(video)
            refusals, _ = explain.check(video[:1])
            target = explain.scores(video).argmax(dim=1)
            return refusals, None if refusals else explain(video, target)

    try:
        refusals, found = explained(torch.float64)
    except NetworkError:  # a network that converts its input runs in float32 alone
        refusals, found = explained(torch.float32)
    if found is None or found.account is None:
        places = f"{len(refusals)} places:" if len(refusals) > 1 else "one place:"
        return [f"relevance would be wrong, in {places}", *(f"- {each}" for each in refusals)], False
    gap, score = float(found.account.gap(found.score).max()), float(found.score.mean())
    return [
        "explainable: relevance in gradient form can follow every step of this network",
        f"the predicted class's score, mean of {len(video)} clips: {in_words(mean_parts(found.account), score)}",
        f"the account closes: the parts differ from the score by {gap:.1e} of the largest",
    ], True


def _table(network: "nn.Module", video: "Tensor", composite: str) -> tuple[str, bool]:
    """Follow the relevance of each clip's predicted class, and say whether its account closes."""
    from vidact.attribution.lrp.conservation import conservation_table
    from vidact.attribution.lrp.explainer import LayerwiseRelevance
    from vidact.core.errors import ExplanationError

    try:
        with LayerwiseRelevance(network, composite=composite, check_network=False) as explain:
            target = explain.scores(video).argmax(dim=1)
        table = conservation_table(network, video, target=target, composite=composite)
    except ExplanationError as error:  # rules refuse what they cannot do
        return f"no conservation table: {error}", False
    return f"the predicted class's relevance, from the scores down to the pixels:\n\n{table}", table.closes
