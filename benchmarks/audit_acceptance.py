"""Measure `audit` on networks whose reliance is known: does it find the guilty, and leave the innocent alone?

    python benchmarks/audit_acceptance.py train FOLDER --kinds patch band --doses 0.125 0.5 0.95 --seeds 0
    python benchmarks/audit_acceptance.py train FOLDER --kinds patch band --doses 0.95 --differences
    python benchmarks/audit_acceptance.py audit FOLDER
    python benchmarks/audit_acceptance.py degrade FOLDER --kinds patch band
    python benchmarks/audit_acceptance.py table FOLDER

Each network is trained on a synthetic set in which a sign agrees with the class in a share of the clips, the dose
(1/8 is chance). Its reliance is measured without the audit: accuracy on clips that are rendered with the sign of their
own class, and with that of another class; 1 − other / own is what an honest audit has to find. Networks that see
differences of frames are innocent of any sign that stands still. Masks hold all discs: those that do not act are no
background, and a network that has learned motion misses them. `degrade` audits again with masks that were made worse.
Each verb goes on where it was stopped.
"""

import argparse
import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from scipy.stats import binomtest, spearmanr

from vidact.core.clips import as_float, height_and_width
from vidact.data.synthetic.clips import SyntheticSettings, render_clip
from vidact.data.synthetic.motions import CLASS_NAMES
from vidact.data.video.reading import to_network_size
from vidact.runs.run import Run, open_run

MARGIN = 0.1
LEAST_RIGHT = 0.25  # accuracy with its own sign from which a network, with 8 classes, has learned something
KINDS = ("patch", "band", "flicker", "plate", "dark", "shot", "cut", "drift", "size")
STILL = ("patch", "band", "plate", "dark")  # signs that stand still
PLANTED_CELL = {"patch": "0,0", "flicker": "0,0"}
# What an audit must say `leans` of, and what it must never say it of; anything else it may.
MUST = {
    "patch": ("background", "cells"),
    "band": ("background",),
    "plate": ("background", "cells"),
    "dark": ("background", "darkness"),
    "flicker": ("time.when", "cells"),
    "shot": ("cuts",),
    "cut": ("time.when",),
    "drift": ("camera",),
    "size": ("scale",),
}
SILENT = {
    **dict.fromkeys(STILL, ("cuts", "scale", "speed")),
    "flicker": ("background", "scale", "speed"),  # the median over time takes the flicker out of the still background
    "shot": ("scale",),
    "drift": ("border", "scale"),
    "size": ("darkness", "cuts"),
}
SECTIONS = ("time", "background", "darkness", "cuts", "border", "cells", "scale", "speed")
EXTRA = {"drift": ("camera",)}  # too slow to be asked of all
# Of the innocent; cells, the border and stretches of time may hold the action itself.
EVERYTHING = ("background", "darkness", "cuts", "scale", "speed")
IOUS = (0.8, 0.65, 0.4, 0.23)


@dataclass(frozen=True)
class Network:
    """A network of the table.

    Attributes:
        kind: Of the sign.
        dose: How often the sign is that of the class.
        seed: Of its set and its training.
        folder: Where everything is.
        differences: Whether it sees what moves alone, and so no sign that stands still.
    """

    kind: str
    dose: str
    seed: int
    folder: Path
    differences: bool = False

    @property
    def name(self) -> str:
        """Part of its folders' names."""
        return f"{self.kind}_{self.dose}_{self.seed}{'_differences' if self.differences else ''}"

    @property
    def data(self) -> Path:
        """Its synthetic set."""
        return self.folder / f"data_{self.name}"

    @property
    def home(self) -> Path:
        """Where its run is."""
        return self.folder / f"run_{self.name}"

    def audit(self, iou: float = 1.0) -> dict[str, Any] | None:
        """Read what the audit with such masks says; None before it is done."""
        path = self.place("audit", iou) / "audit.json"
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def truth(self) -> Path:
        """Where its reliance is, as it was measured without the audit."""
        return self.folder / f"reliance_{self.name}.json"

    def place(self, what: str, iou: float = 1.0) -> Path:
        """Name the folder of the audit or of the masks."""
        return self.folder / (f"{what}_{self.name}" + ("" if iou == 1 else f"_iou_{iou}"))


def networks_in(folder: Path) -> Iterator[Network]:
    """List the networks that are trained."""
    for done in sorted(folder.glob("run_*/done")):
        kind, dose, seed, *differences = done.parent.name.removeprefix("run_").split("_")
        yield Network(kind, dose, int(seed), folder, bool(differences))


def train(networks: Sequence[Network], *, epochs: int = 8, sources: int | None = None, size: int = 48) -> None:
    """Render each set and train a network on it."""
    for one in networks:
        if (one.home / "done").exists():
            continue
        count = () if sources is None else ("--num_sources", str(sources))
        options = ("--confounder", one.kind, "--agreement", one.dose, "--seed", str(one.seed), *count)
        if not one.data.exists():
            _vidact("data", "synthesize", str(one.data), "--preset", "clever-hans", *options)
        settings = {
            "data.root": one.data,
            "data.masks": "true",
            "data.num_workers": 0,
            "data.size": size,
            "data.seed": one.seed,
            "seed_everything": one.seed,
            "model.network.init_args.differences": str(one.differences).lower(),
            "trainer.max_epochs": epochs,
            "trainer.enable_progress_bar": "false",
            "trainer.default_root_dir": one.home,
            "relevance.every_n_epochs": 0,
            "report": "false",
        }
        _vidact("fit", "--config", "demo", *(f"--{name}={value}" for name, value in settings.items()))
        (one.home / "done").touch()


def audit(networks: Sequence[Network], *, clips: int, iou: float = 1.0, sections: Sequence[str] = SECTIONS) -> None:
    """Audit each network with exact masks, or worse ones, and measure its reliance."""
    for one in networks:
        run = next(one.home.glob("version_*"))
        if one.audit(iou) is None:
            masks = one.place("masks", iou)
            write_masks(one.data, masks, iou=iou)
            extra = EXTRA.get(one.kind, ()) if sections == SECTIONS else ()
            asked = ("--sections", f"[{', '.join((*sections, *extra))}]", "--actor", str(masks))
            options = ("--num_clips", str(clips), *asked, "--out", str(one.place("audit", iou)))
            _vidact("audit", str(run), *options, cwd=one.folder)
        if not one.truth.exists():
            one.truth.write_text(json.dumps(reliance(open_run(str(run)), one.data)))


def write_masks(data: Path, folder: Path, *, iou: float) -> None:
    """Write the masks of all discs of a set, made worse until they overlap with themselves by `iou`."""
    for path in sorted((data / "masks").rglob("*.npz")):
        target = folder / path.relative_to(data / "masks")
        if target.exists():
            continue
        with np.load(path) as stored:
            shape = tuple(int(side) for side in stored["shape"])
            exact = np.unpackbits(stored["all_objects"], count=math.prod(shape)).reshape(shape).astype(bool)
        seed = int.from_bytes(hashlib.sha256(path.stem.encode()).digest()[:4], "big")
        target.parent.mkdir(parents=True, exist_ok=True)
        worse = degraded(exact, iou=iou, draw=np.random.default_rng(seed))
        np.savez_compressed(target, always=np.packbits(worse), shape=shape)


def degraded(mask: np.ndarray, *, iou: float, draw: np.random.Generator) -> np.ndarray:
    """Grow or shift a mask [T, H, W], or drop blocks of it, at random one of the three, to an overlap of `iou`."""
    if iou == 1 or not mask.any():
        return mask
    direction = [(0, 1), (1, 0), (0, -1), (-1, 0)][draw.integers(4)]
    height, width = mask.shape[1:]
    blocks = draw.random((mask.shape[0], -(-height // 8), -(-width // 8))).repeat(8, 1).repeat(8, 2)

    def shifted(step: int) -> np.ndarray:
        return np.roll(mask, (step * direction[0], step * direction[1]), axis=(1, 2))

    def grown(step: int) -> np.ndarray:
        return binary_dilation(mask, np.ones((1, 3, 3)), iterations=step)

    def dropped(step: int) -> np.ndarray:
        return mask & (blocks[:, :height, :width] > step / 20)

    worsen = (shifted, grown, dropped)[draw.integers(3)]
    steps = [worsen(step) for step in range(1, 20)]
    return min(steps, key=lambda worse: abs((worse & mask).sum() / (worse | mask).sum() - iou))


def _vidact(*args: str, cwd: Path | None = None) -> None:
    subprocess.run([sys.executable, "-m", "vidact", *args], check=True, cwd=cwd)


def reliance(run: Run, data: Path) -> dict[str, float]:
    """Measure accuracy on validation clips with their own class's sign, and with that of the class after it."""
    made = json.loads((data / "synthetic.json").read_text())
    made.pop("format_version")
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in made.items()}
    settings, size = SyntheticSettings(**plain), height_and_width(run.data_settings["size"])
    assert run.folder is not None
    split = json.loads((run.folder / "split.json").read_text())
    right = {"own": 0, "other": 0}
    for clip_id in split["validation"]:
        class_name, _, name = clip_id.partition("/")
        label, source, index = CLASS_NAMES.index(class_name), int(name.split("_")[0]), int(name.rsplit("_", 1)[1])
        for which, code in (("own", label), ("other", (label + 1) % len(CLASS_NAMES))):
            video = render_clip(class_name, source=source, index=index, settings=settings, code=code).video
            gray = run.data_settings["gray"]
            frames = [to_network_size(torch.from_numpy(frame.copy()), size, gray=gray) for frame in video]
            with torch.inference_mode():
                scores = run.network(as_float(torch.stack(frames, dim=1)[None]))
            right[which] += run.class_names[int(scores.argmax())] == class_name
    count = len(split["validation"])
    own, other = right["own"] / count, right["other"] / count
    lean = 1 - other / own if own else math.nan
    return {"own": own, "other": other, "gap": own - other, "reliance": lean, "clips": count}


Known = tuple[Network, dict[str, Any], dict[str, float]]


def known_of(networks: Sequence[Network], *, iou: float = 1.0) -> list[Known]:
    """Collect what the audits say, and what is known; networks that are not audited yet are left out."""
    return [
        (one, found, json.loads(one.truth.read_text()))
        for one in networks
        if (found := one.audit(iou)) and one.truth.exists()
    ]


def table(networks: Sequence[Network]) -> str:
    """Hold what the audits say against what is known."""
    known = known_of(networks)
    lines = [
        "| sign | dose | seed | right | reliance | of | lean | verdict | naive drop |",
        "|---|--:|--:|--:|--:|---|---|---|--:|",
    ]
    rows = [_row(*one, name) for one in known for name in MUST[one[0].kind][:1]]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", *_by_kind(known), "", *_sensitivity(known), *_alarms(known), *_localisation(known)]
    lines += ["", "With masks that were made worse (background, darkness):"]
    for iou in IOUS:
        if worse := known_of(networks, iou=iou):
            lines += [f"IoU {iou}:", *_sensitivity(worse), *_alarms(worse)]
    return "\n".join(lines)


def _measured(found: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Give the main part of a finding; None where nothing was measured."""
    own = found["sections"].get(name)
    part: dict[str, Any] | None = own["parts"][own["main"]] if own and own.get("parts") else None
    return part


def _row(one: Network, found: dict[str, Any], truth: dict[str, float], name: str) -> tuple[str, ...]:
    part, verdict = _measured(found, name), found["sections"][name]["verdict"]
    lean = "–" if part is None else "{mean:.2f} ({low:.2f} to {high:.2f})".format(**part["lean"])
    drop = "–" if part is None else f"{found['accuracy']['mean'] - part['other']['mean']:.2f}"
    right = f"{100 * found['accuracy']['mean']:.0f} %"
    sign = f"{one.kind}, differences" if one.differences else one.kind
    return sign, one.dose, str(one.seed), right, f"{truth['reliance']:.2f}", name, lean, verdict, drop


def _by_kind(known: Sequence[Known]) -> Iterator[str]:
    yield "Spearman's correlation of reliance and lean:"
    for kind in KINDS:
        pairs = [
            (truth["reliance"], part["lean"]["mean"])
            for one, found, truth in known
            if one.kind == kind and (part := _measured(found, MUST[kind][0])) is not None
        ]
        if len(pairs) > 2:
            correlation = spearmanr(*zip(*pairs, strict=True)).statistic
            yield f"- {kind} ({MUST[kind][0]}): {correlation:.2f} over {len(pairs)} networks"


def _sensitivity(known: Sequence[Known]) -> Iterator[str]:
    """Count the guilty that are found: of reliance 2 δ or more, by each finding that must say it."""
    cases = [
        (truth["reliance"], found["sections"][name]["verdict"] == "leans", one.name, name)
        for one, found, truth in known
        for name in MUST[one.kind]
        if name in found["sections"] and truth["reliance"] > 0 and truth["own"] >= LEAST_RIGHT
    ]
    guilty = [case for case in cases if case[0] >= 2 * MARGIN]
    missed = [case for case in guilty if not case[1]]
    found = f"{len(guilty) - len(missed)} of {len(guilty)}"
    yield f"Guilty (reliance of {2 * MARGIN:g} or more, above chance) that are found: {found}."
    yield from (f"- missed: {name} by {finding}, reliance {value:.2f}" for value, _, name, finding in missed)
    above = sorted({case[0] for case in cases})
    limit = next((low for low in above if _share([case for case in cases if case[0] >= low]) >= 0.95), None)
    if limit is not None:
        yield f"Detection limit: of what hangs on the sign by {limit:.2f} or more, 95 % is found."


def _share(cases: Sequence[tuple[Any, ...]]) -> float:
    return sum(case[1] for case in cases) / len(cases)


def _alarms(known: Sequence[Known]) -> Iterator[str]:
    """Count false alarms where something was measured that must be silent, in networks above chance."""
    cells = [
        (one.name, name, found["sections"][name]["verdict"])
        for one, found, truth in known
        for name in (EVERYTHING if truth["reliance"] < MARGIN / 2 else SILENT.get(one.kind, ()))
        if _measured(found, name) is not None and truth["own"] >= LEAST_RIGHT
    ]
    if not cells:
        return
    alarms = [cell for cell in cells if cell[2] == "leans"]
    silent = sum(cell[2] == "does not lean" for cell in cells)
    high = binomtest(len(alarms), len(cells), alternative="less").proportion_ci(method="exact").high
    yield (
        f"False alarms: {len(alarms)} of {len(cells)} that must be silent (95 % limit: {100 * high:.1f} %); of the "
        f"others {silent} say `does not lean`."
    )
    yield from (f"- {name}: {finding}" for name, finding, _ in alarms)


def _localisation(known: Sequence[Known]) -> Iterator[str]:
    """Count how often the cell with the sign is the one on which most hangs, where the network relies on the sign."""
    first = [
        found["sections"]["cells"]["main"] == PLANTED_CELL[one.kind]
        for one, found, truth in known
        if one.kind in PLANTED_CELL and truth["reliance"] >= 2 * MARGIN and "cells" in found["sections"]
    ]
    yield f"Planted cell first: {sum(first)} of {len(first)}."


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("train", "audit", "degrade", "table"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--doses", nargs="+", default=("0.95", "0.125", "0.5"))
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    parser.add_argument("--differences", action="store_true", help="train networks that see what moves alone")
    parser.add_argument("--sources", type=int, help="scenes to train on and to audit; 240 where it is not given")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--clips", type=int, default=160)
    given = parser.parse_args()
    folder = given.folder.absolute()
    trained = list(networks_in(folder))
    if given.verb == "train":
        each = ((kind, dose, seed) for seed in given.seeds for dose in given.doses for kind in given.kinds)
        networks = [Network(*one, folder, given.differences) for one in each]
        train(networks, epochs=given.epochs, sources=given.sources)
    elif given.verb == "audit":
        audit(trained, clips=given.clips)
    elif given.verb == "degrade":
        kinds = [one for one in trained if one.kind in given.kinds and one.dose in given.doses]
        for iou in IOUS:
            audit(kinds, clips=given.clips, iou=iou, sections=("background", "darkness"))
    else:
        print(table(trained))


if __name__ == "__main__":
    main()
