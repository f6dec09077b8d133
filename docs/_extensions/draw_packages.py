"""Draw the packages of vidact as seven floors, with an arrow for each import that no longer way implies.

    python docs/_extensions/draw_packages.py packages.svg

grimp finds the imports, networkx leaves out the implied ones, matplotlib draws. `make docs` runs it.
"""

import sys
from pathlib import Path

import grimp
import matplotlib
import networkx

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

# Package: its floor, where it stands across, and what it does.
PACKAGES = {
    "__main__": (7, 0.0, "starts"),
    "cli": (6, -1.25, "command line"),
    "api": (6, 1.25, "Python"),
    "training": (5, -1.25, "trains, resumes"),
    "report": (5, 1.25, "one HTML page"),
    "evaluation": (4, -2.5, "is it right?"),
    "audit": (4, 0.0, "what it leans on"),
    "explaining": (4, 2.5, "any video"),
    "attribution": (3, -2.1, "clip → relevance"),
    "runs": (3, 2.1, "run folders"),
    "models": (2, -2.5, "networks"),
    "drawing": (2, 0.0, "arrays → pictures"),
    "data": (2, 2.5, "clips → batches"),
    "core": (1, 0.0, "words that all share"),
}
WIDTH, HEIGHT = 2.1, 0.56
INK, FILL, EDGE = "#1c2b33", "#e3f1f8", "#0b6e99"


def imports() -> networkx.DiGraph:
    """Read which package imports which, without those that follow from others; core is imported by all."""
    graph = grimp.build_graph("vidact")
    packages = graph.find_children("vidact")
    for package in packages:
        if graph.find_children(package):
            graph.squash_module(package)
    found = networkx.DiGraph()
    for package in packages:
        name = package.partition(".")[2]
        found.add_node(name)
        found.add_edges_from(
            (name, other.partition(".")[2])
            for other in graph.find_modules_directly_imported_by(package)
            if other != package  # its __init__ may name what is in it
        )
    found.remove_node("core")
    return networkx.transitive_reduction(found)


def draw(path: Path) -> None:
    """Draw the floors into an SVG file.

    Raises:
        ValueError: a package has no floor here, or an arrow goes up.
    """
    graph = imports()
    if strange := set(graph) ^ (set(PACKAGES) - {"core"}):
        raise ValueError(f"PACKAGES and the packages of vidact differ: {', '.join(sorted(strange))}")
    figure, axes = pyplot.subplots(figsize=(5.8, 7), layout="constrained")
    for level in range(1, 8):
        axes.axhspan(level - 0.5, level + 0.5, color="#f1f5f7" if level % 2 else "white", zorder=0)
        axes.text(-4.0, level, f"{level}", va="center", color=EDGE, fontsize=13, fontweight="bold")
    for name in PACKAGES:
        _box(axes, name)
    for name, other in sorted(graph.edges):
        _arrow(axes, name, other)
    axes.set(xlim=(-4.2, 3.7), ylim=(0.45, 7.55))
    axes.axis("off")
    with pyplot.rc_context({"svg.hashsalt": "vidact"}):  # with no date, equal packages give equal bytes
        figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _box(axes: Axes, name: str) -> None:
    level, across, purpose = PACKAGES[name]
    width = 7.0 if name == "core" else WIDTH
    corner = (across - width / 2, level - HEIGHT / 2)
    axes.add_patch(FancyBboxPatch(corner, width, HEIGHT, boxstyle="round,pad=0.02", fc=FILL, ec=EDGE, zorder=3))
    axes.text(across, level + 0.13, name, ha="center", va="center", color=INK, fontsize=11, fontweight="bold", zorder=4)
    axes.text(
        across, level - 0.13, purpose.replace("\n", " "), ha="center", va="center", color=INK, fontsize=8.5, zorder=4
    )


def _arrow(axes: Axes, name: str, other: str) -> None:
    (level, across, _), (below, other_across, _) = PACKAGES[name], PACKAGES[other]
    if below >= level:
        raise ValueError(f"{name} imports {other}, which is on no lower floor")
    lean = max(-0.6, min(0.6, (other_across - across) * 0.25))
    start, end = (across + lean, level - HEIGHT / 2), (other_across - lean, below + HEIGHT / 2 + 0.03)
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0})


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
