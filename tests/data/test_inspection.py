import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vidact.data import inspection
from vidact.data.inspection import inspect_clips

WriteClip = Callable[..., Path]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """List the files that are really measured."""
    paths: list[Path] = []
    measure = inspection.measure_video

    def count(path: Path) -> inspection.VideoInfo:
        paths.append(path)
        return measure(path)

    monkeypatch.setattr(inspection, "measure_video", count)
    return paths


def test_each_file_is_measured_once(tmp_path: Path, write_clip: WriteClip, measured: list[Path]) -> None:
    paths = [write_clip(tmp_path / f"{number}.avi", 5 + number) for number in range(3)]
    first = inspect_clips(paths)
    assert [first[path].info.num_frames for path in paths] == [5, 6, 7]  # type: ignore[union-attr]
    assert inspect_clips(paths) == first
    assert sorted(measured) == paths


def test_a_changed_file_is_measured_again(tmp_path: Path, write_clip: WriteClip, measured: list[Path]) -> None:
    path = write_clip(tmp_path / "clip.avi", 5)
    inspect_clips([path])
    write_clip(path, 9)
    os.utime(path, (1, 1))
    assert inspect_clips([path])[path].info.num_frames == 9  # type: ignore[union-attr]
    assert len(measured) == 2


def test_what_cannot_be_used_has_a_reason(tmp_path: Path, write_clip: WriteClip) -> None:
    good = write_clip(tmp_path / "good.avi", 5)
    empty = tmp_path / "empty.avi"
    empty.touch()
    found = inspect_clips([good, empty, tmp_path / "gone.avi"])
    assert found[good].reason == ""
    assert found[empty].reason == "the file is empty (0 bytes)"
    assert found[tmp_path / "gone.avi"].reason == "no such file or directory"


def test_a_damaged_manifest_is_made_anew(tmp_path: Path, write_clip: WriteClip) -> None:
    path = write_clip(tmp_path / "clip.avi", 5)
    inspect_clips([path])
    for manifest in (Path(os.environ["VIDACT_CACHE"]) / "manifests").glob("*.json"):
        manifest.write_text("{")
    assert inspect_clips([path])[path].info.num_frames == 5  # type: ignore[union-attr]


def test_headers_that_claim_too_much_are_seen(jhmdb: Path) -> None:
    """Nearly all of J-HMDB's headers do."""
    paths = sorted((jhmdb / "videos" / "wave").glob("*.avi"))[:10]
    assert sum(found.truncated for found in inspect_clips(paths).values()) >= 8
