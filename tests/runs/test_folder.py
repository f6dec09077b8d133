import os
from pathlib import Path

from vidact.runs.folder import RunFolder, epoch_name, new_run_folder, newest_last_checkpoint


def test_the_files_of_a_run_lie_where_older_runs_have_them(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    found = (folder.config, folder.split, folder.metrics, folder.best_checkpoint, folder.last_checkpoint)
    names = ("config.yaml", "split.json", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
    assert found == tuple(tmp_path / name for name in names)
    assert folder.picture("confusion", "val") == tmp_path / "confusion_val.png"
    assert folder.faithfulness_picture(9) == tmp_path / "faithfulness" / "epoch_009.png"
    assert RunFolder.of_checkpoint(folder.last_checkpoint) == folder


def test_epochs_sort_by_their_names_as_by_their_numbers() -> None:
    assert sorted(map(epoch_name, (100, 9, 10))) == ["epoch_009", "epoch_010", "epoch_100"]


def test_a_new_run_gets_the_number_after_the_largest_and_disturbs_none(tmp_path: Path) -> None:
    for name in ("version_0", "version_7", "version_old", "other"):
        (tmp_path / name).mkdir()
    assert [new_run_folder(tmp_path).name for _ in range(2)] == ["version_8", "version_9"]


def test_the_newest_last_checkpoint_is_the_one_that_was_written_last(tmp_path: Path) -> None:
    assert newest_last_checkpoint(tmp_path) is None
    for number, written in enumerate((300, 100, 200)):
        path = RunFolder(tmp_path / f"version_{number}").last_checkpoint
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (written, written))
    assert newest_last_checkpoint(tmp_path) == RunFolder(tmp_path / "version_0").last_checkpoint
