import math
import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from vidact.audit.actors.pose import (
    DETECTOR_SIDE,
    FILES,
    PoseNetwork,
    Square,
    alignment_points,
    anchors,
    cut_out,
    put_back,
    square_about,
)
from vidact.core.errors import ConfigError, EnvironmentProblem
from vidact.data.datasets.jhmdb import read_puppet_mask
from vidact.data.video.reading import read_frames


def test_a_detection_is_decoded_from_its_anchor() -> None:
    middles = anchors()
    assert middles.shape == (2254, 2)
    assert middles[[0, 2, 56, 1568, 1960]].mul(DETECTOR_SIDE).tolist() == [[4, 4], [12, 4], [4, 12], [8, 8], [16, 16]]
    raw, logits = torch.zeros(2254, 12), torch.full((2254,), -9.0)
    assert alignment_points(raw, logits, middles) is None
    raw[2, 2:8], logits[2] = torch.tensor([50.0, 60, 3, 4, 5, -6]), 3
    points = alignment_points(raw, logits, middles)
    assert points is not None
    assert torch.allclose(points, torch.tensor([[15.0, 8], [17, -2]]))


def test_a_square_stands_upright_about_the_hips() -> None:
    square = square_about(torch.tensor([50.0, 60.0]), torch.tensor([50.0, 40.0]))
    assert square == pytest.approx((50, 60, 50, 0))
    assert square_about(torch.tensor([50.0, 60.0]), torch.tensor([70.0, 60.0])).turn == pytest.approx(math.pi / 2)


def test_the_head_of_a_lying_person_is_on_top_of_the_square() -> None:
    frame = torch.zeros(1, 80, 100)
    frame[0, 38:42, 70:74] = 1  # head to the right of the hips at (50, 40)
    square = square_about(torch.tensor([50.0, 40.0]), torch.tensor([74.0, 40.0]))
    rows, columns = (cut_out(frame, square, 64)[0] > 0.5).nonzero().double().mean(dim=0).tolist()
    assert rows < 16
    assert columns == pytest.approx(31.5, abs=1)


def test_what_is_cut_out_is_put_back_where_it_was() -> None:
    frame = torch.zeros(1, 90, 120)
    frame[0, 30:60, 50:70] = 1
    square = Square(62, 47, 60, 0.7)
    back = put_back(cut_out(frame, square, 256)[0], square, (90, 120))
    assert ((back >= 0.5) != (frame[0] >= 0.5)).float().mean() < 0.001


def test_files_that_are_not_the_networks_are_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "mediapipe-1.2.3.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("mediapipe/__init__.py", "")
    (tmp_path / "text.whl").write_text("no zip")
    folder = tmp_path / "folder"
    folder.mkdir()
    for place, reason in ((wheel, "holds no"), (tmp_path / "text.whl", "cannot be read"), (folder, "holds no")):
        with pytest.raises(ConfigError, match=f"{reason}.*mediapipe==0.10.21"):
            PoseNetwork(place)
    for name in FILES:
        (folder / name).write_bytes(b"another")
    with pytest.raises(ConfigError, match="is another one"):
        PoseNetwork(folder)


def test_a_missing_interpreter_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidact.audit.actors.pose._read", lambda *_: b"")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'vidact\[person\]'"):
        PoseNetwork(Path("mediapipe.whl"))


def test_people_of_jhmdb_are_found(jhmdb: Path) -> None:
    """Clips with one person, spread over the classes; of frames in which somebody is found."""
    if "VIDACT_MEDIAPIPE" not in os.environ:
        pytest.skip("VIDACT_MEDIAPIPE does not name the wheel of MediaPipe 0.10.21")
    pytest.importorskip("ai_edge_litert", reason="pip install 'vidact[person]'")
    network, overlaps, found_frames = PoseNetwork(Path(os.environ["VIDACT_MEDIAPIPE"])), [], []
    paths = sorted((jhmdb / "videos").glob("*/*_np1_*.avi"))
    for path in paths[:: len(paths) // 10][:10]:
        true = torch.from_numpy(read_puppet_mask(jhmdb / "puppet_mask" / path.parent.name / f"{path.stem}.mat"))
        numbers = range(0, len(true), 4)
        size = (true.shape[1], true.shape[2])
        frames = read_frames(path, numbers, size=size, gray=False, decoder="pyav").transpose(0, 1)
        found, true = network.find(frames), true[list(numbers)]
        somebody = found.flatten(1).any(dim=1)
        overlap = (found & true).flatten(1).sum(dim=1) / (found | true).flatten(1).sum(dim=1)
        overlaps += overlap[somebody].tolist()
        found_frames += somebody.tolist()
    print(f"IoU {sum(overlaps) / len(overlaps):.3f} in {sum(found_frames)} of {len(found_frames)} frames")
    assert sum(overlaps) / len(overlaps) >= 0.6
    assert sum(found_frames) / len(found_frames) >= 0.6
