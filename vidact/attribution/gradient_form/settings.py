"""The rules of relevance in gradient form, by name: what softmax does, and γ of layers with weights."""

from dataclasses import dataclass

from vidact.core.errors import ConfigError


@dataclass(frozen=True)
class Rules:
    """How relevance is divided in gradient form.

    Attributes:
        attention: Whether attention weights take relevance (`attnlrp`: softmax by its own gradient), or are constants
            (`cp_lrp`: all goes to the values).
        gamma: γ of linear layers; 0 is the ε rule without ε, their own gradient.
        conv_gamma: γ of convolutions.
    """

    attention: str = "cp_lrp"
    gamma: float = 0.05
    conv_gamma: float = 0.25

    def __post_init__(self) -> None:
        if self.attention not in ("attnlrp", "cp_lrp"):
            raise ConfigError(f"attention is attnlrp or cp_lrp, got {self.attention!r}")
        for name in ("gamma", "conv_gamma"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is a number of 0 or more, got {getattr(self, name)!r}")

    @property
    def weights_are_constant(self) -> bool:
        """Whether attention weights are constants."""
        return self.attention == "cp_lrp"
