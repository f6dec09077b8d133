"""Settings of a report; imports no torch, so that the command line's help answers at once."""

from dataclasses import dataclass

from vidact.attribution.names import LRP
from vidact.core.errors import ConfigError
from vidact.explaining.settings import ExplainSettings


@dataclass(frozen=True)
class ReportSettings:
    """What a report shows.

    Attributes:
        part: The clips that are measured: validation or test.
        methods: Methods of explaining that the page switches between, as '[lrp, grad_cam]'; lrp is by the composite
            that the run was trained with.
        clips_per_class: Clips of each class to show, drawn at random.
        mistakes: Further clips to show: the most confident mistakes.
    """

    part: str = "validation"
    methods: tuple[str, ...] = (LRP, "gradient_x_input")
    clips_per_class: int = 2
    mistakes: int = 8

    def __post_init__(self) -> None:
        from vidact.runs.measuring import STAGES

        if self.part not in STAGES:
            raise ConfigError(f"part is one of {', '.join(STAGES)}, got {self.part!r}")
        if not self.methods or self.clips_per_class < 0 or self.mistakes < 0:
            raise ConfigError(f"expected methods, and numbers of clips of 0 or more, got {self}")
        for method in self.methods:
            ExplainSettings(method)
