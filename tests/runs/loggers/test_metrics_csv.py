from pathlib import Path

import pytest

from vidact.core.errors import DataError
from vidact.runs.loggers.metrics_csv import read_rows, trim_rows


def test_rows_after_a_checkpoint_and_a_row_that_was_cut_off_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"epoch,step,val/loss\n0,4,1.5\n1,,0.5\n1,8,\n1,12,\n2,16,\n2,1")
    with pytest.warns(
        UserWarning, match=r"metrics\.csv: its last row was cut off and is dropped: '2,1'; training goes"
    ):
        trim_rows(path, epoch=1, step=9)
    assert read_rows(path)[1] == [
        {"epoch": "0", "step": "4", "val/loss": "1.5"},
        {"epoch": "1", "step": "", "val/loss": "0.5"},
        {"epoch": "1", "step": "8", "val/loss": ""},
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\x00\xfe\n",
        b"a,b\n1,2\n",
        b"a,b\n",
        b"epoch,st",
        b"epoch,step\nx,1\n",
        b"epoch,step\n1,2,3\n",
        b"epoch,step\n1\n",
        b"\x00\n\x00\n",
    ],
    ids=["binary", "other columns", "no rows", "cut header", "no number", "a cell too many", "a cell too few", "zeros"],
)
def test_what_is_no_table_of_metrics_is_named_and_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"metrics\.csv: expected a table .* move it away, and training goes on"):
        trim_rows(path, epoch=0, step=0)
    assert path.read_bytes() == content


def test_rows_without_an_epoch_are_kept_by_their_step(tmp_path: Path) -> None:
    """As Lightning's LearningRateMonitor logs them; they are logged again from the checkpoint's step on."""
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,lr-Adam,val/loss\n,0,0.1,\n0,1,,0.5\n,2,0.1,\n1,3,,0.4\n")
    trim_rows(path, epoch=1, step=2)
    assert [row["step"] for row in read_rows(path)[1]] == ["0", "1"]


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(DataError, match=r"metrics\.csv: expected a table .* move it away"):
        trim_rows(tmp_path / "metrics.csv", epoch=1, step=1)


def test_an_empty_file_where_epochs_were_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").touch()
    with pytest.warns(UserWarning, match=r"metrics\.csv is empty: the numbers of the first 3 epochs are lost"):
        trim_rows(tmp_path / "metrics.csv", epoch=3, step=1)


def test_an_empty_file_and_none_hold_nothing_to_drop(tmp_path: Path) -> None:
    trim_rows(tmp_path / "nowhere.csv", epoch=0, step=0)
    (tmp_path / "metrics.csv").touch()
    trim_rows(tmp_path / "metrics.csv", epoch=0, step=0)
    assert read_rows(tmp_path / "metrics.csv") == ([], [])
