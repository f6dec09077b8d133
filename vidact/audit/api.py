"""Audit a run from Python."""

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from vidact.audit.factors.own import wrap
from vidact.audit.factors.places import Factor
from vidact.audit.gates.gate import check_gate, parse_gate
from vidact.audit.output.files import content_of, markdown
from vidact.audit.relevance.trusted import choose_method
from vidact.audit.results.findings import Part
from vidact.audit.results.summary import Audit, summarise
from vidact.audit.runs import ask, prepare
from vidact.audit.sections import EXCHANGES, Exchange
from vidact.audit.settings import AUTO, DEFAULT, SECTIONS, AuditSettings
from vidact.core.errors import ConfigError
from vidact.runs.clips.choice import Choice
from vidact.runs.run import Run, open_run


@dataclass(frozen=True)
class Finding:
    """What is said of one factor.

    Attributes:
        verdict: `leans`, `does not lean` or `cannot say`.
        reason: The numbers behind it, or why nothing can be said.
        main: The numbers of the part on which most hangs; None where nothing was measured.
        parts: Those of all parts, by name.
        clips: How many were asked about.
        sources: How many sources they come from.
    """

    verdict: str
    reason: str
    main: Part | None
    parts: Mapping[str, Part]
    clips: int
    sources: int

    def __getattr__(self, name: str) -> Any:
        """Give a number of the main part, as `lean`, `steer`, `gap`, `same`, `other`."""
        if name.startswith("_") or name not in Part.__dataclass_fields__:
            raise AttributeError(f"a finding has no {name!r}; it has {', '.join(Part.__dataclass_fields__)}")
        return None if self.main is None else getattr(self.main, name)


@dataclass(frozen=True)
class Found:
    """What a run leans on; `found["background"].lean.low` is a number of one finding.

    Attributes:
        audit: All of it.
        content: The same as `audit.json` has it.
    """

    audit: Audit
    content: Mapping[str, Any] = field(repr=False)

    @property
    def verdict(self) -> str:
        """All verdicts in one sentence."""
        return self.audit.sentence

    def __getitem__(self, name: str) -> Finding:
        """Give one finding.

        Raises:
            KeyError: it was not asked.
        """
        if name not in self.audit.verdicts:
            raise KeyError(f"{name!r} was not asked; there are {', '.join(self.audit.verdicts)}")
        found, verdict = self.audit.findings[name], self.audit.verdicts[name]
        if found is None:
            return Finding(verdict.verdict, verdict.reason, None, {}, 0, 0)
        main = found.parts[found.main]
        return Finding(verdict.verdict, verdict.reason, main, found.parts, found.clips, found.sources)

    def check(self, expression: str) -> bool:
        """Say whether a condition holds on which the command would fail: `background.lean.high > 0.2`.

        Raises:
            ConfigError: not such an expression, or a name that was not asked.
        """
        gate = parse_gate([expression], findings=list(self.audit.verdicts), has_baseline=False)
        return any(outcome.failed for outcome in check_gate(gate, self.content, baseline=None, strict=False))

    def _repr_markdown_(self) -> str:
        return markdown(self.audit)


def audit(
    run: str | Path | Run,
    *,
    sections: Sequence[str] = DEFAULT,
    factors: Mapping[str, Factor] | None = None,
    actor: str = AUTO,
    masks_folder: str | Path | None = None,
    objects: Mapping[str, str | Path] | None = None,
    part: str = Choice.part,
    root: str | Path | None = None,
    num_clips: int | None = None,
    donors: int = 8,
    margin: float = 0.1,
    method: str = AUTO,
    seed: int = 0,
    out: str | Path | None = None,
    accelerator: str = "auto",
) -> Found:
    """Say what a run's network leans on, as `python -m vidact audit` does.

    Args:
        run: A run folder, a checkpoint, or an opened run.
        sections: What is asked; none where your own factors are all.
        factors: What else is exchanged: objects with `exchange(clips, donors)`, by a name of letters.
        actor: Where the actor is: auto, moving, none.
        masks_folder: A folder of masks.
        objects: Folders with the masks of objects, which are exchanged, too, by name.
        part: validation or test.
        root: Another data set.
        num_clips: How many clips; None for all.
        donors: How many other clips lend each part.
        margin: δ.
        method: What explains clips, for the sections that look at relevance.
        seed: Of all that is drawn at random.
        out: Keeps the answers for each clip, so that the same call goes on where it was stopped; None keeps none. A
            factor of your own is the same as long as the code of its class and its attributes are.
        accelerator: cpu, gpu, auto.

    Raises:
        ConfigError: a setting that is wrong.
        DataError: no usable clip.
    """
    opened = run if isinstance(run, Run) else open_run(str(run))
    sections = (sections,) if isinstance(sections, str) else tuple(sections)
    settings = AuditSettings(
        sections=sections,
        actor=actor,
        objects={name: str(place) for name, place in (objects or {}).items()},
        donors=donors,
        margin=margin,
        seed=seed,
        method=method,
    )
    choice = Choice(
        part=part,
        root=None if root is None else str(root),
        masks_folder=None if masks_folder is None else str(masks_folder),
        num_clips=num_clips,
    )
    with tempfile.TemporaryDirectory() as temporary, _quiet():
        own = _named(factors or {})
        folder = Path(out or temporary)
        prepared = prepare(
            opened,
            folder=folder,
            settings=settings,
            choice=choice,
            again=False,
            factors=own,
            method=choose_method(opened.folder, method),
        )
        trainer = Trainer(accelerator=accelerator, devices=1, barebones=True)
        found = summarise(prepared, ask(prepared, trainer=trainer))
    return Found(found, content_of(found))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from telling what of a trainer is switched off here."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in ("`isinstance\\(treespec, LeafSpec", ".*does not have many workers"):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)


def _named(factors: Mapping[str, Factor]) -> dict[str, Exchange]:
    for name in factors:
        if not name.isidentifier():
            raise ConfigError(f"a factor's name is one of letters, digits and _, got {name!r}")
        if name in (*EXCHANGES, *SECTIONS, "leans", "worst", "accuracy", "baseline"):
            raise ConfigError(f"a factor cannot be named {name}, which means something else in an audit")
    return {
        name: Exchange(name, name.replace("_", " "), {name: wrap(factor, name)}) for name, factor in factors.items()
    }
