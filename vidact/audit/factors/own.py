"""A factor that a user has written, held to what every factor promises."""

import hashlib
import inspect
import pickle
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidact.audit.factors.clips import Clips
from vidact.audit.factors.places import Alone, Factor
from vidact.core.errors import ConfigError


@dataclass(frozen=True, repr=False)
class Own:
    """Gives a user's factor copies of the clips, so that it may write into them, and checks what it gives back.

    Attributes:
        factor: What the user wrote.
        name: As messages have it.
    """

    factor: Factor
    name: str

    @cached_property
    def _digest(self) -> str:
        """Tell factors apart by the code of their class and their attributes; what cannot be told apart is new."""
        try:
            told = inspect.getsource(type(self.factor)).encode() + pickle.dumps(vars(self.factor))
        except (OSError, TypeError, AttributeError, pickle.PicklingError):  # typed in by hand, slots, functions
            told = uuid.uuid4().bytes
        return hashlib.sha1(told, usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        """Name the factor such that answers about another one are not taken for its own."""
        return f"{type(self.factor).__qualname__} {self._digest}"

    def exchange(self, clips: Clips, donors: Clips) -> Float[Tensor, "B C T H W"]:
        """Exchange the part.

        Raises:
            ConfigError: what comes back are no such clips.
        """
        return self._checked(self.factor.exchange(_copy(clips), _copy(donors)), clips, "exchange")

    def _checked(self, found: Any, clips: Clips, method: str) -> Tensor:
        expected = tuple(clips.video.shape)
        if not isinstance(found, Tensor) or found.shape != expected:
            got = f"{tuple(found.shape)}" if isinstance(found, Tensor) else f"{type(found).__name__}"
            raise ConfigError(f"{self.name}: {method} must give a tensor of the clips' shape {expected}, got {got}")
        changed: Tensor = found.to(clips.video)
        if not bool(torch.isfinite(changed).all()):
            raise ConfigError(f"{self.name}: {method} gives values that are not finite")
        return changed


class OwnAlone(Own):
    """The same for a factor that can be shown alone."""

    def alone(self, clips: Clips) -> Float[Tensor, "B C T H W"]:
        """Show the part alone.

        Raises:
            ConfigError: what comes back are no such clips.
        """
        assert isinstance(self.factor, Alone)
        return self._checked(self.factor.alone(_copy(clips)), clips, "alone")


def wrap(factor: Any, name: str) -> Own:
    """Wrap a user's factor.

    Raises:
        ConfigError: it has no `exchange`.
    """
    if not isinstance(factor, Factor) or isinstance(factor, type):
        raise ConfigError(f"{name}: expected an object with exchange(clips, donors), got {_name(factor)}")
    return OwnAlone(factor, name) if isinstance(factor, Alone) else Own(factor, name)


def _name(factor: Any) -> str:
    return f"the class {factor.__name__}" if isinstance(factor, type) else type(factor).__name__


def _copy(clips: Clips) -> Clips:
    mask, plate = (None if own is None else own.clone() for own in (clips.mask, clips.plate))
    objects = {name: _copy(own) for name, own in clips.objects.items()}
    return Clips(clips.video.clone(), mask, plate, objects)
