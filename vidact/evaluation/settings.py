"""Settings of `evaluate`: which clips, and what is measured; imports no torch, so that its help answers at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from vidact.attribution.names import ATTNLRP, AUTO, CP_LRP, DEFAULT_COMPOSITE, LRP, PREDICTED
from vidact.core.errors import ConfigError, nearest
from vidact.evaluation.names import (
    CONFOUNDER,
    CONTROLS,
    FAMILIES,
    FRAMES,
    FRAMES_ONLY,
    LOCALISATION,
    PERTURBATION,
    SPARSENESS,
    TRUE_MASKS,
    TUBES,
    UNITS,
)

CHEAP = (PERTURBATION, LOCALISATION, SPARSENESS)
IDLE = {(FRAMES, "temporal_mean")}  # changes nothing
OVER_TIME = frozenset({"temporal_mean"}) | FRAMES_ONLY  # in a clip of a single frame they change nothing
LABEL = "label"
# What `auto` stands for among methods, by the composite that suits the network.
SUITED = {
    DEFAULT_COMPOSITE: tuple(f"{LRP}:{composite}" for composite in (DEFAULT_COMPOSITE, "epsilon_gamma", "epsilon")),
    CP_LRP: (f"{LRP}:{CP_LRP}", f"{LRP}:{ATTNLRP}", "attention_rollout", "gradient_x_attention"),
}


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured of a run's explanations.

    Attributes:
        methods: Ways of explaining, as '[lrp:epsilon_plus, grad_cam, occlusion]'; controls are measured beside them.
            auto stands for lrp by the composites that suit the network.
        measures: perturbation, localisation, composition, randomisation, sensitivity, sparseness; null for
            perturbation, sparseness and, where there are masks, localisation.
        units: What is replaced at once: tubes, frames, columns.
        fills: What replaces it: blur, temporal_mean, spatial_blur, dataset_mean, noise and, for frames, freeze and
            mean_frame. The first unit and the first fill that suits it decide which method is best.
        num_steps: Points of a perturbation curve after its start.
        random_orders: How many random orders the methods are compared with.
        masks: Kinds of masks; null for all that the data set has.
        target: What is explained: label (the true class) or predicted.
        batch_size: Clips that go through the network at once.
        seed: Of all that is drawn at random, together with a clip's id.
    """

    methods: tuple[str, ...] = (
        *(AUTO, "gradient", "gradient_x_input", "smoothgrad", "integrated_gradients", "grad_cam"),
    )
    measures: tuple[str, ...] | None = None
    units: tuple[str, ...] = (TUBES, FRAMES)
    fills: tuple[str, ...] = ("blur", "temporal_mean", "freeze")
    num_steps: int = 10
    random_orders: int = 20
    masks: tuple[str, ...] | None = None
    target: str = LABEL
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        from vidact.evaluation.measures.fill_ins import FILL_INS

        if not self.methods or set(self.methods) & set(CONTROLS):
            raise ConfigError(
                f"--methods expects one method or more beside the controls, which always run; got {list(self.methods)}"
            )
        _check_methods(self.methods)
        check_names("methods", self.methods, self.methods)
        check_names("measures", self.measures or (), FAMILIES)
        check_names("units", self.units, UNITS)
        check_names("fills", self.fills, tuple(FILL_INS))
        check_names("target", (self.target,), (LABEL, PREDICTED))
        for name, least in (("num_steps", 1), ("random_orders", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if self.measures == ():
            raise ConfigError(f"--measures expects one or more of {', '.join(FAMILIES)}")
        if self.measures is None or PERTURBATION in self.measures:
            self._check_pairs()

    def _check_pairs(self) -> None:
        for units in self.units:
            if not any(pair[0] == units for pair in self.pairs_of(None)):
                raise ConfigError(f"--fills {list(self.fills)}: none of them suits {units}; add blur")
        if not self.units:
            raise ConfigError(f"--units expects one or more of {', '.join(UNITS)}")

    def pairs_of(self, num_frames: int | None) -> tuple[tuple[str, str], ...]:
        """Pair units with the fills that suit them.

        Args:
            num_frames: Of a clip, where it is known. With a single frame, fills that need other frames change nothing,
                and frames have no order.
        """
        pairs = [(units, fill) for units in self.units for fill in self.fills if _suits(units, fill)]
        if num_frames == 1:
            pairs = [(units, fill) for units, fill in pairs if units != FRAMES and fill not in OVER_TIME]
        return tuple(pairs)

    def idle_note(self, num_frames: int) -> list[str]:
        """Say in a line which pairs of units and fill are skipped, as they change nothing in clips of this length.

        Raises:
            ConfigError: all are.
        """
        left = self.pairs_of(num_frames)
        idle = [f"{units} with {fill}" for units, fill in self.pairs_of(None) if (units, fill) not in left]
        if not idle:
            return []
        if not left:
            raise ConfigError(
                f"clips of {num_frames} frame: nothing is replaced by {', '.join(idle)}; add tubes to --units and "
                "blur to --fills"
            )
        return [f"clips of {num_frames} frame: skipped are {', '.join(idle)}"]

    def families(self, *, has_masks: bool) -> tuple[str, ...]:
        """Name the families that are measured.

        Raises:
            ConfigError: localisation is asked for, and there are no masks.
        """
        if self.measures is None:
            return tuple(name for name in CHEAP if has_masks or name != LOCALISATION)
        if LOCALISATION in self.measures and not has_masks:
            raise ConfigError(
                "--measures localisation: the data set has no masks; expected a folder masks or puppet_mask in or "
                "beside it (--masks_folder names another place, --root takes another data set)"
            )
        return tuple(name for name in FAMILIES if name in self.measures)

    def mask_kinds(self, there: Sequence[str]) -> tuple[str, ...]:
        """Name the kinds of masks that are measured.

        Args:
            there: The kinds that the data set has.

        Raises:
            ConfigError: a kind that the data set does not have.
        """
        if self.masks is None:
            return tuple(there)
        check_names("masks", self.masks, there)
        return self.masks


def _check_methods(methods: Sequence[str]) -> None:
    from vidact.attribution.registry import check_composite, check_method

    for method in methods:
        if method == AUTO:
            continue
        check_method(method)
        name, _, detail = method.partition(":")
        if name == LRP and detail:
            check_composite(detail)


def _suits(units: str, fill: str) -> bool:
    return (units, fill) not in IDLE and (units == FRAMES or fill not in FRAMES_ONLY)


def check_names(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Check that names are known, and given once.

    Raises:
        ConfigError: an unknown name (says the nearest), or a name that is given twice.
    """
    for name in given:
        if name not in known:
            near = nearest(name, known, at_most=1)
            hint = f"nearest: {near[0]}; " if near else ""
            raise ConfigError(f"--{option}: {name!r} is unknown; {hint}there are {', '.join(known) or 'none'}")
    if len(set(given)) < len(given):
        raise ConfigError(f"--{option}: a name is given twice in {list(given)}")


def headline(
    settings: EvaluateSettings, families: Sequence[str], kinds: Sequence[str], *, num_frames: int | None = None
) -> tuple[str, ...]:
    """Name the keys by which methods are judged: ABPC of the first pair and, with masks, RMA in the truth.

    Args:
        settings: What is measured.
        families: As `settings.families` names them.
        kinds: Of the masks that are measured.
        num_frames: Of a clip, where it is known.
    """
    if PERTURBATION not in families:
        return ()
    units, fill = settings.pairs_of(num_frames)[0]
    truth = [kind for kind in (*TRUE_MASKS, *kinds) if kind in kinds and kind != CONFOUNDER]
    return (f"abpc/{units}/{fill}", *(f"rma/{kind}" for kind in truth[:1] if LOCALISATION in families))
