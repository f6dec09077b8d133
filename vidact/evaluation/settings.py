"""What is measured of explanations, by which methods: settings that are checked before anything expensive starts.

It measures nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vidact.attribution.lrp.composites import read_recipe
from vidact.attribution.names import LRP
from vidact.attribution.registry import check_method
from vidact.core.errors import ConfigError, nearest
from vidact.evaluation.measures.fill_ins import FILL_INS, FRAMES_ONLY
from vidact.evaluation.measures.units import COLUMNS, FRAMES, TUBES
from vidact.evaluation.results.tables import (
    CONFOUNDER,
    CONTROLS,
    FAMILIES,
    LOCALISATION,
    PERTURBATION,
    SPARSENESS,
    TRUE_MASKS,
)

METHODS = (
    *(f"{LRP}:{composite}" for composite in ("epsilon_plus", "epsilon_gamma", "epsilon")),
    *("gradient", "gradient_x_input", "smoothgrad", "integrated_gradients", "grad_cam"),
)
CHEAP = (PERTURBATION, LOCALISATION, SPARSENESS)
UNITS = (TUBES, FRAMES, COLUMNS)
IDLE = {(FRAMES, "temporal_mean")}  # changes nothing
OVER_TIME = frozenset({"temporal_mean"}) | FRAMES_ONLY  # in a clip of a single frame they change nothing
LABEL, PREDICTED = "label", "predicted"


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured.

    Attributes:
        methods: Ways of explaining, as `explainers.METHODS` names them; `CONTROLS` are run beside them.
        measures: Of `FAMILIES`; None for the cheap ones, and for localisation where there are masks.
        units: What is taken away at once: tubes, frames, columns.
        fills: What takes its place; those that are nothing for a unit are left out there. The first unit with the first
            fill that suits it makes the headline.
        num_steps: Points of a perturbation curve after its start.
        random_orders: Orders whose mean is the control `random` of perturbation.
        masks: Kinds of masks; None for all that the set has.
        target: What is explained: the clip's `label`, or the `predicted` class.
        batch_size: Clips that go through the network at once.
        seed: Of all that is drawn, together with the clip's id.
    """

    methods: tuple[str, ...] = METHODS
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
        if not self.methods or set(self.methods) & set(CONTROLS):
            raise ConfigError(
                f"--methods expects one method or more beside the controls, which always run; got {list(self.methods)}"
            )
        for method in self.methods:
            check_method(method)
            name, _, detail = method.partition(":")
            if name == LRP and detail:
                read_recipe(detail)
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
        """Name units with the fills that suit them.

        Args:
            num_frames: Of a clip, where it is known. In a single frame there is no time to take away: fills that need
                others change nothing, and frames have no order.
        """
        pairs = [(units, fill) for units in self.units for fill in self.fills if _suits(units, fill)]
        if num_frames == 1:
            pairs = [(units, fill) for units, fill in pairs if units != FRAMES and fill not in OVER_TIME]
        return tuple(pairs)

    def idle_note(self, num_frames: int) -> list[str]:
        """Say in a line which pairs of units and fill are left out, being nothing in clips of so many frames.

        Raises:
            ConfigError: all are.
        """
        left = self.pairs_of(num_frames)
        idle = [f"{units} with {fill}" for units, fill in self.pairs_of(None) if (units, fill) not in left]
        if not idle:
            return []
        if not left:
            raise ConfigError(
                f"clips of {num_frames} frame: nothing is taken away by {', '.join(idle)}; add tubes to --units and "
                "blur to --fills"
            )
        return [f"clips of {num_frames} frame: left out are {', '.join(idle)}"]

    def families(self, *, has_masks: bool) -> tuple[str, ...]:
        """Name the families that are measured.

        Raises:
            ConfigError: localisation is asked for by name, and there are no masks.
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
            there: Those that the set has.

        Raises:
            ConfigError: a kind that it does not have.
        """
        if self.masks is None:
            return tuple(there)
        check_names("masks", self.masks, there)
        return self.masks


def _suits(units: str, fill: str) -> bool:
    return (units, fill) not in IDLE and (units == FRAMES or fill not in FRAMES_ONLY)


def check_names(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Make sure that names are known, and given once.

    Raises:
        ConfigError: one is not (with the nearest), or is given twice.
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
