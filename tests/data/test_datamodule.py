import shutil
import string
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_videos import write_timed
from torch.utils.data import DataLoader, DistributedSampler

from vidact.core.clips import ClipBatch, ClipSource, SplitSource, as_float
from vidact.core.errors import ConfigError, DataError
from vidact.data.datamodule import VideoDataModule
from vidact.data.datasets.index import index_clips
from vidact.data.loading.augmentation import AugmentationSettings
from vidact.data.loading.windows import join
from vidact.data.synthetic import files as synthetic_files
from vidact.data.synthetic.motions import CLASS_NAMES
from vidact.data.video.timeline import FrameRates


def _module(root: Path, **kwargs: Any) -> VideoDataModule:
    settings = {"root": str(root), "num_frames": 4, "size": 16, "batch_size": 6, "num_workers": 0} | kwargs
    module = VideoDataModule(**settings)
    module.prepare_data()
    module.setup("fit")
    return module


def test_batches_are_uint8_and_say_what_they_hold(small_set: Path) -> None:
    module = _module(small_set, num_windows=2)
    batch = next(iter(module.val_dataloader()))
    assert batch.video.shape == (6, 1, 4, 16, 16)
    assert batch.video.dtype == torch.uint8
    assert batch.frame_numbers[0].tolist() == [0, 2, 4, 6]
    assert batch.frame_numbers[1].tolist() == [13, 15, 17, 19]
    torch.testing.assert_close(batch.times_seconds, batch.frame_numbers / 30)
    assert batch.clip_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.window_index.tolist() == list(range(6))
    assert [name.split("/")[0] for name in batch.clip_id] == [module.class_names[k] for k in batch.label]
    assert float(as_float(batch.video).max()) <= 1


def test_windows_have_the_2020_reports_names_where_they_are_asked_for(small_set: Path) -> None:
    module = _module(small_set, num_windows=2, datapoint_names=True)
    order = [clip.clip_id for clip in index_clips(small_set)]
    batch = next(iter(module.val_dataloader()))
    letter = dict(zip(CLASS_NAMES, string.ascii_uppercase, strict=False))  # initials of the classes are not unique
    assert batch.datapoint == tuple(
        f"vc{letter[clip.partition('/')[0]]}{order.index(clip) + 1:04d}_{frame}"
        for clip, frame in zip(batch.clip_id, batch.frame_numbers[:, 0].tolist(), strict=True)
    )
    assert next(iter(_module(small_set).val_dataloader())).datapoint == ()


def test_colour_and_oblong_sizes_work(small_set: Path) -> None:
    batch = next(iter(_module(small_set, gray=False, size=(12, 20)).train_dataloader()))
    assert batch.video.shape == (6, 3, 4, 12, 20)


def test_parts_share_no_source_and_cover_the_set(small_set: Path) -> None:
    module = _module(small_set)
    parts = [
        {window.clip for window in loader.dataset.windows}  # type: ignore[attr-defined]
        for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    ]
    assert [len(part) for part in parts] == [48, 16, 16]
    sources = [{clip.source for clip in part} for part in parts]
    assert len(set.union(*sources)) == sum(map(len, sources))


def test_the_official_split_is_found_in_the_folder(small_set: Path) -> None:
    flags = {
        line.split()[0]: line.split()[1]
        for path in (small_set / "splits").glob("*_test_split2.txt")
        for line in path.read_text().splitlines()
    }
    test = _module(small_set, split="official", fold=2).test_dataloader().dataset
    names = {window.clip.path.name for window in test.windows}  # type: ignore[attr-defined]
    assert names == {name for name, flag in flags.items() if flag == "2"}


def test_only_training_is_shuffled_and_by_the_seed(small_set: Path) -> None:
    module = _module(small_set)
    assert isinstance(module.train_dataloader().sampler, DistributedSampler)
    assert not isinstance(module.val_dataloader().sampler, DistributedSampler)
    orders = [
        [index for batch in _module(small_set, seed=seed).train_dataloader() for index in batch.window_index.tolist()]
        for seed in (0, 0)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])


def test_workers_give_the_same_batches(small_set: Path) -> None:
    alone = join(list(_module(small_set).val_dataloader()))
    together = join(list(_module(small_set, num_workers=2).val_dataloader()))
    assert torch.equal(alone.video, together.video)
    assert alone.clip_id == together.clip_id


def test_examples_are_the_same_every_time_and_a_few_of_each_class(small_set: Path) -> None:
    module = _module(small_set, num_windows=3)
    assert isinstance(module, ClipSource)
    assert isinstance(module, SplitSource)
    first, second = module.example_clips("validate", 2), module.example_clips("validate", 2)
    assert first.clip_id == second.clip_id
    assert torch.equal(first.video, second.video)
    assert torch.bincount(first.label).tolist() == [2] * 8
    assert len(set(first.clip_id)) == 16


def _three_classes(small_set: Path, root: Path) -> Path:
    """Copy three of the classes: a set that is new is measured anew, which takes most of the time here."""
    for name in ("left", "right", "up"):
        shutil.copytree(small_set / "videos" / name, root / "videos" / name)
    return root


@pytest.fixture
def damaged_set(small_set: Path, tmp_path: Path) -> Path:
    """One clip empty, one text, one cut."""
    root = _three_classes(small_set, tmp_path / "set")
    clips = sorted((root / "videos" / "left").glob("*.avi"))
    clips[0].write_bytes(b"")
    clips[1].write_text("not a video")
    content = clips[2].read_bytes()
    clips[2].write_bytes(content[: len(content) * 4 // 5])
    return root


def test_clips_that_cannot_be_read_are_skipped_and_listed(
    damaged_set: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        module = _module(damaged_set)
    assert len(module.left_out) == 2
    said = caplog.text + capfd.readouterr().err
    assert "30 clips; 28 can be used" in said
    assert "0000_scene_left_f_nm_np1_fr_goo_0: empty: the file is empty (0 bytes)" in said
    assert "0001_scene_left_f_nm_np1_fr_goo_0: not_a_video: not a video" in said
    assert "  truncated: 1\n" in said
    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    assert sum(len(loader.dataset) for loader in loaders) == 28  # type: ignore[arg-type]


def test_a_clip_that_fails_later_does_not_kill_the_epoch(small_set: Path, tmp_path: Path) -> None:
    module = _module(_three_classes(small_set, tmp_path / "set"), cache_gigabytes=0.0, batch_size=2)
    victims = [window.clip.path for window in module.val_dataloader().dataset.windows[:3]]  # type: ignore[attr-defined]
    for victim in victims:
        victim.unlink()
    batches = list(module.val_dataloader())
    assert [len(batch) for batch in batches] == [0, 1, 2]
    assert batches[0].video.shape == (0, 1, 4, 16, 16)
    assert len(batches[0].left_out) == 2
    assert "no such file" in batches[0].left_out[0]


def test_a_class_of_unreadable_clips_is_named(small_set: Path, tmp_path: Path) -> None:
    root = _three_classes(small_set, tmp_path / "set")
    for path in (root / "videos" / "up").glob("*.avi"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="class 'up': none of its clips can be read; the first: up/0000_scene"):
        _module(root)


def test_shared_sources_and_unused_clips_are_reported(
    small_set: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        _module(small_set, split="clip")
    said = caplog.text + capfd.readouterr().err
    (line,) = [line for line in said.splitlines() if "source: test in training+validation" in line]
    _, other_class, either = (int(number) for number in line.split()[4:7])
    assert 0 < other_class <= either <= 16


def test_short_clips_are_counted(
    small_set: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        _module(small_set, num_frames=16)
    said = caplog.text + capfd.readouterr().err
    assert "  too_short: 80\n" in said


def test_without_a_root_the_synthetic_set_is_rendered_once(monkeypatch: pytest.MonkeyPatch, small_set: Path) -> None:
    calls = []
    monkeypatch.setattr(synthetic_files, "synthesize", lambda folder, progress: calls.append(folder))
    monkeypatch.setattr(synthetic_files, "default_folder", lambda: small_set)
    module = VideoDataModule()
    module.prepare_data()
    assert calls == [small_set]
    assert module.class_names == CLASS_NAMES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "--data.batch_size must be at least 1, got 0"),
        ({"stride": 0}, "--data.stride must be at least 1"),
        ({"num_workers": -1}, "--data.num_workers must be at least 0"),
        ({"seed": -1}, "the seed must be at least 0"),
        ({"classes": []}, "--data.classes needs 2 or more"),
        ({"size": 0}, "--data.size must be at least 1 pixel"),
        ({"split": "official", "fold": 4}, "split 'official' has folds 1 to 3, got fold 4"),
        ({"fold": 0}, "has folds 1 to 5"),
        ({"stride": 20}, "--data.stride 20 is longer than any clip"),
        (
            {"num_frames": 41, "stride": 1},
            "--data.num_frames 41: the longest clip, 20 frames, has 20 for a window at stride 1",
        ),
        ({"num_frames": 15, "stride": 3}, "--data.num_frames 15: the longest clip, 20 frames, has 7 for a window"),
        ({"test_windows": 0}, "--data.test_windows must be at least 1"),
        ({"crop_from": 0, "augmentation": AugmentationSettings()}, "--data.crop_from .0, 0. is smaller than"),
        ({"crop_from": 32}, "--data.crop_from needs --data.augmentation"),
        ({"fps": 0.0}, "--data.fps must be more than 0 and at most 1000, got 0"),
        ({"fps": float("nan")}, "--data.fps must be more than 0"),
        ({"fps": 1e9}, "--data.fps must be more than 0 and at most 1000"),
        ({"validation_share": 0.0}, "validation_share must be from 0.05 to 0.5, got 0.0"),
        ({"split": "mine.json", "validation_share": 0.1}, "mine.json says which clips train and which validate"),
        ({"split": "mine.json", "use_unused": True}, "mine.json says which clips train and which validate"),
    ],
)
def test_settings_that_make_no_sense_are_named(small_set: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _module(small_set, **settings)


def _only(loader: DataLoader[ClipBatch]) -> ClipBatch:
    return join(list(loader))


def test_windows_from_the_cache_are_those_from_the_files(small_set: Path) -> None:
    cached, live = _module(small_set, num_windows=2), _module(small_set, num_windows=2, cache_gigabytes=0.0)
    assert cached.val_dataloader().dataset.needs_no_decoding  # type: ignore[attr-defined]
    assert not live.val_dataloader().dataset.needs_no_decoding  # type: ignore[attr-defined]
    assert torch.equal(_only(cached.val_dataloader()).video, _only(live.val_dataloader()).video)


def test_a_cache_that_is_too_small_is_reported_before_anything_is_decoded(small_set: Path) -> None:
    with pytest.raises(ConfigError, match=r"raise --data.cache_gigabytes \(0: no cache\)"):
        _module(small_set, cache_gigabytes=1e-6, num_frames=5)


def test_both_decoders_give_the_same_frames(small_set: Path) -> None:
    videos = [_only(_module(small_set, decoder=decoder).val_dataloader()).video for decoder in ("decord", "pyav")]
    assert (videos[0].int() - videos[1].int()).abs().max() <= 3


def test_masks_come_with_their_frames(small_set: Path) -> None:
    """At the clips' own size the masks are those in the files, of these frames."""
    batch = _only(_module(small_set, masks=True, size=32).val_dataloader())
    assert batch.mask is not None
    for mask, name, numbers in zip(batch.mask, batch.clip_id, batch.frame_numbers, strict=True):
        truth = synthetic_files.load_mask(small_set / "masks" / f"{name}.npz")[numbers.numpy()]
        assert torch.equal(mask, torch.from_numpy(truth))
    assert _only(_module(small_set).val_dataloader()).mask is None


def test_masks_that_are_not_there_are_reported(small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder masks or puppet_mask in or beside it"):
        _module(_three_classes(small_set, tmp_path / "alone" / "set"), masks=True)


@pytest.fixture
def varied(small_set: Path) -> VideoDataModule:
    return _module(small_set, augmentation=AugmentationSettings(temporal_jitter=1), stride=1, masks=True)


def _vary(module: VideoDataModule, *, training: bool, epoch: int = 0) -> tuple[ClipBatch, ClipBatch]:
    """Move a batch as Lightning does; before and after."""
    before = next(iter(module.train_dataloader() if training else module.val_dataloader()))
    module.trainer = SimpleNamespace(training=training, current_epoch=epoch)  # type: ignore[assignment]
    return before, module.on_after_batch_transfer(module.on_before_batch_transfer(before, 0), 0)


def test_training_clips_are_varied_and_no_others(varied: VideoDataModule) -> None:
    before, after = _vary(varied, training=True)
    assert (before.video.shape[2], after.video.shape[2]) == (6, 4)
    assert after.mask is not None
    assert after.mask.shape == (*after.frame_numbers.shape, 16, 16)
    assert {int(after.frame_numbers[k, 0] - before.frame_numbers[k, 0]) for k in range(6)} <= {0, 1, 2}
    before, after = _vary(varied, training=False)
    assert before is after
    assert before.video.shape[2] == 4


def test_chance_depends_on_the_epoch_and_on_nothing_that_happened_before(small_set: Path) -> None:
    def varied(epoch: int) -> torch.Tensor:
        module = _module(small_set, augmentation=AugmentationSettings())
        torch.rand(epoch)  # the global generator plays no part
        return _vary(module, training=True, epoch=epoch)[1].video

    assert torch.equal(varied(3), varied(3))
    assert not torch.equal(varied(3), varied(4))


def test_the_order_of_training_does_not_depend_on_the_cache(small_set: Path) -> None:
    """It is a function of seed and epoch; Lightning names the epoch."""
    orders = []
    for settings in ({}, {"cache_gigabytes": 0.0}, {"cache_gigabytes": 0.0, "num_workers": 2}):
        loader = _module(small_set, **settings).train_dataloader()
        orders.append([_epoch(loader, number) for number in (0, 1, 2, 1)])
    assert orders[0] == orders[1] == orders[2]
    assert orders[0][0] != orders[0][1] == orders[0][3]


def _epoch(loader: DataLoader[ClipBatch], number: int) -> list[int]:
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return _only(loader).window_index.tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("stride", [2, "adaptive"])
def test_a_shift_in_time_keeps_stride_and_place(small_set: Path, stride: Any) -> None:
    plain = _module(small_set, stride=stride, num_windows=2)
    shifted = _module(small_set, stride=stride, num_windows=2, augmentation=AugmentationSettings(temporal_jitter=1))
    windows = [module.train_dataloader().dataset.windows for module in (plain, shifted)]  # type: ignore[attr-defined]
    for window, wider in zip(*windows, strict=True):
        runs = [wider.frame_numbers[first : first + 4] for first in range(3)]
        assert window.frame_numbers in runs


@pytest.mark.parametrize("cache_gigabytes", [0.0, 1.0])
def test_frames_come_in_the_order_that_was_asked_for(small_set: Path, cache_gigabytes: float) -> None:
    plain = next(iter(_module(small_set, cache_gigabytes=cache_gigabytes).val_dataloader()))
    for order in ("reversed", "frozen", "shuffled"):
        module = _module(small_set, frame_order=order, masks=True, cache_gigabytes=cache_gigabytes)
        batch = next(iter(module.val_dataloader()))
        assert batch.clip_id == plain.clip_id
        for row, numbers in enumerate(batch.frame_numbers.tolist()):
            own = plain.frame_numbers[row].tolist()
            places = [own.index(number) for number in numbers]
            assert torch.equal(batch.video[row], plain.video[row][:, places])
            expected = {"reversed": own[::-1], "frozen": [own[2]] * 4, "shuffled": numbers}[order]
            assert numbers == expected
    assert any(row.diff().min() < 0 for row in batch.frame_numbers)


def test_a_shift_in_time_cannot_be_had_with_another_order(small_set: Path) -> None:
    with pytest.raises(ConfigError, match="frame_order shuffled allows no temporal_jitter"):
        _module(small_set, frame_order="shuffled", augmentation=AugmentationSettings(temporal_jitter=1))


def test_crops_are_cut_from_larger_frames_and_come_out_at_the_size(small_set: Path) -> None:
    off = {"flip_probability": 0.0, "brightness": 0.0, "contrast": 0.0, "temporal_jitter": 0}
    augmentation = AugmentationSettings(crop_scale=(1.0, 1.0), **off)
    module = _module(small_set, size=16, crop_from=(32, 24), augmentation=augmentation)
    before, after = _vary(module, training=True)
    assert before.video.shape[-2:] == (32, 24)
    assert after.video.shape[-2:] == (16, 16)
    assert next(iter(module.val_dataloader())).video.shape[-2:] == (16, 16)
    grid = torch.nn.functional.interpolate(
        before.video[:, 0].float(), size=(16, 16), mode="bilinear", align_corners=False
    )
    assert (after.video[:, 0].float() - grid).abs().max() <= 0.51, "the whole frame, sampled at the pixels' centres"


def test_validation_and_test_may_have_other_windows_than_training(small_set: Path) -> None:
    module = _module(small_set, num_windows=2, test_windows=3)
    for loader, count in ((module.train_dataloader(), 2), (module.val_dataloader(), 3)):
        clips = torch.cat([batch.clip_index for batch in loader])
        assert torch.bincount(clips).unique().tolist() == [count]


def _of_rate(root: Path, class_name: str, rate: int) -> None:
    """Ten clips of one second, from dark to bright whatever their rate."""
    for clip in range(10):
        times = [Fraction(number, rate) for number in range(rate)]
        levels = [20 + clip + 180 * number // rate for number in range(rate)]
        write_timed(root / class_name / f"{class_name} {clip}.mp4", times, levels)


@pytest.fixture(scope="module")
def mixed_rates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of 30 frames a second in one class, of 60 in the other."""
    root = tmp_path_factory.mktemp("rates")
    _of_rate(root, "slow", 30)
    _of_rate(root, "swift", 60)
    return root


def test_mixed_rates_are_reported_once_with_what_to_do(
    mixed_rates: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        module = _module(mixed_rates)
    said = caplog.text + capfd.readouterr().err
    assert said.count("training clips have 30 to 60 frames a second") == 1
    assert "--data.fps" in said
    assert (module.frame_rates.lowest, module.frame_rates.highest) == (30.0, 60.0)
    with caplog.at_level("INFO"):
        _module(mixed_rates, fps=30.0)
    assert (caplog.text + capfd.readouterr().err).count("training clips have") == said.count("training clips have")


def test_at_one_rate_clips_of_two_rates_look_alike(mixed_rates: Path) -> None:
    module = _module(mixed_rates, fps=30.0)
    batch = _only(module.val_dataloader())
    expected = {0: [11, 13, 15, 17], 1: [22, 26, 30, 34]}
    assert [numbers.tolist() for numbers in batch.frame_numbers] == [expected[int(label)] for label in batch.label]
    torch.testing.assert_close(batch.times_seconds, torch.tensor([[11, 13, 15, 17]] * len(batch)) / 30)
    slow, swift = (batch.video[batch.label == label].float().mean(dim=(0, 1, 3, 4)) for label in (0, 1))
    torch.testing.assert_close(slow, swift, atol=5, rtol=0)
    assert module.frame_rates == FrameRates(30.0, 30.0, 30.0)
    assert module.state_dict() == {"frame_rates": {"lowest": 30.0, "usual": 30.0, "highest": 30.0}}


def test_without_a_rate_a_clip_of_twice_the_rate_is_slow_motion(mixed_rates: Path) -> None:
    batch = _only(_module(mixed_rates).val_dataloader())
    spans = batch.times_seconds[:, -1] - batch.times_seconds[:, 0]
    torch.testing.assert_close(spans, torch.where(batch.label == 0, 6 / 30, 6 / 60))


def test_a_shift_in_time_works_at_another_rate(mixed_rates: Path) -> None:
    module = _module(mixed_rates, fps=15.0, augmentation=AugmentationSettings(temporal_jitter=1))
    (batch, *_) = module.train_dataloader()
    steps = batch.times_seconds.diff(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 2 / 15))
    assert batch.video.shape[2] == 4 + 2
