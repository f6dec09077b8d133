"""Write the report of a run that has just been trained: gather what it found, draw it, write the files."""

from dataclasses import dataclass
from pathlib import Path

import torch

from vidact.core.errors import VidactError
from vidact.core.folders import refuse_foreign_file
from vidact.data.datamodule import VideoDataModule
from vidact.drawing.figure import save_png
from vidact.report.page import is_page, report_page, write_page
from vidact.report.run_pictures import run_figures
from vidact.report.run_view import ReportSettings, view_run
from vidact.runs.folder import RunFolder
from vidact.runs.trust import modules_of_file


@dataclass(frozen=True)
class WrittenReport:
    """What was written of a report.

    Attributes:
        page: The HTML file.
        pictures: Picture files by the names of their figures.
        problems: Why other pictures are missing, a line each.
    """

    page: Path
    pictures: dict[str, Path]
    problems: tuple[str, ...]


def write_run_report(folder: RunFolder, *, data: VideoDataModule, device: torch.device) -> WrittenReport:
    """Write `report.html`, and accuracies of the validation clips as pictures, into the folder of a run just trained.

    Raises:
        VidactError: the run cannot be measured, explained or drawn, or the page cannot be written.
    """
    refuse_foreign_file(folder.report, is_page)
    own = sorted(modules_of_file(folder.config))  # the user has just run this code, so it is trusted
    view = view_run(folder.path, settings=ReportSettings(), device=device, data=data, trust=own)
    page, figures = report_page([view]), run_figures(view)
    write_page(page, folder.report)
    pictures, problems = {}, []
    for name, figure in figures.items():
        path = folder.picture(name, "val")
        try:
            save_png(figure, path)
        except VidactError as error:
            problems.append(f"there is no picture {path.name}: {error}")
        else:
            pictures[name] = path
    return WrittenReport(folder.report, pictures, tuple(problems))
