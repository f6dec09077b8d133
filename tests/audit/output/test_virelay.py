"""Clips, relevance and groups come back from the files as they were, where ViRelAy's reader looks for them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vidact.audit.output.virelay import Explained, export_virelay
from vidact.audit.relevance.clusters import Strategies
from vidact.core.errors import EnvironmentProblem, VidactError


def _clips(count: int) -> list[Explained]:
    draw = torch.Generator().manual_seed(0)
    return [
        Explained(
            f"a/{count - number:02}",  # not in the order of their names
            torch.rand(1, 4, 6, 5, generator=draw),
            torch.randn(4, 6, 5, generator=draw),
            number % 2,
            torch.rand(3, generator=draw),
        )
        for number in range(count)
    ]


def _strategies(group: list[int]) -> Strategies:
    nowhere = np.zeros((2, 10, 10), bool)
    return Strategies(np.array(group), 0.01, 0.9, np.ones((2, 10, 10)), nowhere, np.stack([nowhere] * 2), "")


def test_what_is_exported_is_read_back(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    clips = _clips(12)
    group = {0: [0, 0, 0, 1, 1, 1], 1: [0, 1, 0, 1, 0, 1]}
    strategies = {label: _strategies(own) for label, own in group.items()}
    paths = export_virelay(tmp_path, iter(clips), strategies, class_names=["run", "jump", "hit"], seed=0)
    with h5py.File(paths[0]) as samples, h5py.File(paths[1]) as attributions, h5py.File(paths[2]) as analysis:
        assert samples["data"].shape == attributions["attribution"].shape == (12, 3, 6, 20)
        assert samples["label"][:].tolist() == attributions["label"][:].tolist() == [0, 1] * 6
        for number, clip in enumerate(clips):
            for frame in range(4):
                columns = slice(5 * frame, 5 * frame + 5)
                own = samples["data"][number, 2, :, columns] / 255
                assert own == pytest.approx(clip.video[0, frame].numpy(), abs=1 / 255)
                summed = attributions["attribution"][number, :, :, columns].sum(axis=0)
                assert summed == pytest.approx(clip.relevance[frame].numpy(), abs=1e-6)
            assert attributions["prediction"][number] == pytest.approx(clip.prediction.numpy())
        for label, name in enumerate(("run", "jump")):
            own = analysis[name]
            by_name = sorted(clip.clip_id for clip in clips if clip.label == label)
            for index, cluster in zip(own["index"][:], own["cluster/spray"][:], strict=True):
                assert cluster == group[label][by_name.index(clips[index].clip_id)]
            assert own["embedding/spectral"].shape == (6, 6)
            assert own["embedding/spectral"].attrs["eigenvalue"][0] == pytest.approx(0, abs=1e-6)
            assert own["embedding/tsne"].shape == (6, 2)


def test_clips_that_were_not_grouped_and_a_missing_library_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5py", None)
        with pytest.raises(EnvironmentProblem, match="pip install"):
            export_virelay(tmp_path, [], {}, class_names=[], seed=0)
    pytest.importorskip("h5py", reason="h5py is not installed")
    with pytest.raises(VidactError, match="run: expected the 2 clips that were grouped, got 3"):
        export_virelay(tmp_path, _clips(6), {0: _strategies([0, 1])}, class_names=["run"], seed=0)
