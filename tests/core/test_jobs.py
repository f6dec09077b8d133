import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from vidact.core.jobs import JobRunner, installed_versions, make_request, read_record

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


class Squares(JobRunner):
    def __init__(self, num_jobs: int) -> None:
        super().__init__(num_jobs)
        self.scale = torch.nn.Parameter(torch.ones(()))  # Lightning asks for the device of something
        self.is_open, self.sizes = False, list[int]()

    def open(self, stack: contextlib.ExitStack) -> None:
        self.is_open = True
        stack.callback(setattr, self, "is_open", False)

    def work(self, numbers: Sequence[int]) -> None:
        assert self.is_open
        self.sizes.append(len(numbers))
        self.results += [number**2 for number in numbers]


def _trainer() -> Trainer:
    return Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False)


def test_all_jobs_are_done_some_at_once_and_everything_is_closed_afterwards() -> None:
    runner = Squares(5)
    assert runner.run_all(trainer=_trainer(), at_once=2) == [0, 1, 4, 9, 16]
    assert runner.sizes == [2, 2, 1]
    assert not runner.is_open


def test_no_jobs_give_no_results() -> None:
    assert Squares(0).run_all(trainer=_trainer()) == []


def test_a_request_is_what_json_gives_back_of_it() -> None:
    assert make_request(size=(16, 12), files={1: None})["size"] == [16, 12]
    assert make_request(files={1: None})["files"] == {"1": None}
    assert make_request(a=1) != make_request(a=2)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"request": 3}'])
def test_a_file_that_is_no_record_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "record.json"
    assert read_record(path) is None
    path.write_text(content)
    assert read_record(path) is None
    path.write_text('{"request": {}, "more": 1}')
    assert read_record(path) == {"request": {}, "more": 1}


def test_libraries_that_are_not_installed_have_no_version() -> None:
    assert installed_versions(["torch", "no-such-library"]).keys() == {"torch"}
