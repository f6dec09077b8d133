"""Draw an audit: the lean of each finding, and that of each cell over the mean frame."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vidact.audit.factors.places import GRID
from vidact.audit.results.summary import Audit
from vidact.audit.settings import CELLS
from vidact.drawing.audit.lean import LeanRow, cells_plot, lean_plot


def audit_figures(audit: Audit, *, mean_frame: Float[np.ndarray, "H W"] | None) -> dict[str, Figure]:
    """Draw `lean` and, where cells were exchanged, `cells`.

    Args:
        audit: What was found.
        mean_frame: Of some clips, in [0, 1], to draw the cells over.
    """
    rows = []
    for name, found in audit.findings.items():
        works = audit.verdicts[name].works  # else a lean would be read, whatever the verdict says
        lean = None if found is None or not works else found.parts[found.main].lean
        label = audit.says[name]
        if found is not None and len(found.parts) > 1:
            label = f"{label} ({found.main})"
        ends = (None, None, None) if lean is None else (lean.mean, lean.low, lean.high)
        rows.append(LeanRow(label, audit.verdicts[name].verdict, *ends))
    margin = float(audit.settings["margin"])
    figures = {}
    if rows:
        title = f"What {audit.run} leans on, {audit.clips} clips"
        figures["lean"] = lean_plot(rows, margin=margin, title=title)
    cells = audit.findings.get(CELLS)
    if cells is not None and mean_frame is not None and audit.verdicts[CELLS].works:
        lean_of, clear = np.full((GRID, GRID), np.nan), [[False] * GRID for _ in range(GRID)]
        for part, value in cells.parts.items():
            row, column = map(int, part.split(","))
            lean_of[row, column] = np.nan if value.lean.mean is None else value.lean.mean
            clear[row][column] = value.lean.wide_low is not None and value.lean.wide_low > margin
        title = f"Where {audit.run} finds the class: lean of each cell"
        figures["cells"] = cells_plot(lean_of, clear, frame=mean_frame, title=title)
    return figures
