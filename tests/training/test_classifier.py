from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from made_windows import made_batch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, top_k_accuracy_score
from torch import nn
from torch.utils.data import DataLoader

from vidact.core.clips import ClipBatch
from vidact.core.errors import CheckpointError, ConfigError, DataError, NetworkError
from vidact.models.stacked import StackedFramesCNN
from vidact.runs.accuracy.predictions import WindowPredictions
from vidact.training.classifier import ActionClassifier


class _Lookup(nn.Module):
    """A network whose scores for a window are written in its first pixels."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return video[:, 0, 0, 0, : self.num_classes] * 255 / 20 * self.scale


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    values: dict[str, float] = {}
    monkeypatch.setattr(
        ActionClassifier, "log", lambda self, name, value, **_: values.update({name: torch.as_tensor(value).item()})
    )
    monkeypatch.setattr(
        ActionClassifier, "log_dict", lambda self, many, **_: values.update({k: v.item() for k, v in many.items()})
    )
    return values


class _Penalised(_Lookup):
    """A lookup that adds two terms of its own to the training loss."""

    def scores_and_penalties(self, video: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return self(video), {"smooth": self.scale * 2, "clear": -self.scale / 4}


def test_the_terms_of_a_regularised_network_are_added_and_logged(logged: dict[str, float]) -> None:
    batch = made_batch(np.array([[9, 1], [2, 5]]), [0, 1], [0, 1], [0, 1])
    penalised, plain = ActionClassifier(_Penalised(2), ("a", "b")), ActionClassifier(_Lookup(2), ("a", "b"))
    loss = penalised.training_step(batch)
    assert loss.item() == pytest.approx(plain.training_step(batch).item() + 2 - 0.25)
    assert logged["train/penalty/smooth"] == pytest.approx(2)
    assert logged["train/penalty/clear"] == pytest.approx(-0.25)
    loss.backward()
    plain.training_step(batch).backward()
    assert penalised.network.scale.grad.item() == pytest.approx(plain.network.scale.grad.item() + 2 - 0.25)


def test_validation_knows_no_penalties(logged: dict[str, float]) -> None:
    batch = made_batch(np.array([[9, 1], [2, 5]]), [0, 1], [0, 1], [0, 1])
    losses = []
    for network in (_Penalised(2), _Lookup(2)):
        model = ActionClassifier(network, ("a", "b"))
        model.validation_step(batch)
        model.on_validation_epoch_end()
        losses.append(logged["val/loss"])
    assert losses[0] == losses[1]
    assert not [name for name in logged if "penalty" in name]


def test_a_regularised_network_with_other_outputs_is_named() -> None:
    model = ActionClassifier(_Penalised(3), ("a", "b"))
    with pytest.raises(NetworkError, match=r"_Penalised returns .* shape \[1, 3\] for 1 clips; .* for 2 classes"):
        model.training_step(made_batch(np.array([[9, 1, 2]]), [0], [0], [0]))


def test_measures_agree_with_scikit_learn(logged: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "d")
    clips = np.repeat(np.arange(50), 3)[:140]  # the last clip has two windows
    label = rng.integers(0, 4, 50)[clips]
    pixels = rng.integers(0, 200, (140, 4))
    pixels[np.arange(140), label] += 20
    model = ActionClassifier(_Lookup(4), names, top_k=2)
    for start in range(0, 140, 32):
        rows = slice(start, start + 32)
        batch = made_batch(pixels[rows], label[rows].tolist(), clips[rows].tolist(), list(range(140))[rows])
        model.validation_step(batch)
    model.on_validation_epoch_end()

    scores = pixels / 20
    by_clip = np.stack([_softmax(scores)[clips == clip].mean(axis=0) for clip in np.unique(clips)])
    truth = np.array([label[clips == clip][0] for clip in np.unique(clips)])
    guess = by_clip.argmax(axis=1)
    assert logged["val/window_accuracy"] == pytest.approx(accuracy_score(label, scores.argmax(axis=1)))
    assert logged["val/clip_accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert logged["val/clip_accuracy_macro"] == pytest.approx(balanced_accuracy_score(truth, guess))
    assert logged["val/clip_top2_accuracy"] == pytest.approx(top_k_accuracy_score(truth, by_clip, k=2))
    for number, name in enumerate(names):
        rows = truth == number
        assert logged[f"val/class_accuracy/{name}"] == pytest.approx((guess[rows] == number).mean())
    np.testing.assert_array_equal(model.confusion["val"].numpy(), confusion_matrix(truth, guess))
    picked = _softmax(scores)[np.arange(140), label]
    assert logged["val/loss"] == pytest.approx(-np.log(picked).mean(), rel=1e-5)


def test_a_window_that_came_twice_counts_once() -> None:
    metric = WindowPredictions()
    pixels = np.array([[9, 1], [2, 5], [9, 1], [3, 3]])
    metric.update(made_batch(pixels, [0, 1, 0, 1], [0, 1, 0, 2], [0, 1, 0, 2]), torch.from_numpy(pixels).float())
    found = metric.compute()
    assert found is not None
    assert found.label.tolist() == [0, 1, 1]
    assert found.scores.tolist() == [[9, 1], [2, 5], [3, 3]]


def test_one_window_is_measured() -> None:
    metric = WindowPredictions()
    metric.update(made_batch(np.array([[9, 1]]), [0], [0], [0]), torch.tensor([[9.0, 1.0]]))
    found = metric.compute()
    assert found is not None
    assert found.per_clip()[0].shape == (1, 2)


def test_nothing_to_measure_logs_nothing(logged: dict[str, float]) -> None:
    model = ActionClassifier(_Lookup(2), ("a", "b"))
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        model.on_validation_epoch_end()
    assert logged == {}


def test_a_batch_whose_clips_all_failed_has_no_gradient(logged: dict[str, float]) -> None:
    model = ActionClassifier(_Lookup(2), ("a", "b"))
    batch = made_batch(np.zeros((0, 2)), [], [], [])
    loss = model.training_step(batch)
    loss.backward()
    assert loss.item() == 0
    assert [parameter.grad.abs().sum().item() for parameter in model.parameters()] == [0]  # type: ignore[union-attr]


def test_clips_that_fail_are_said_once() -> None:
    model = ActionClassifier(_Lookup(2), ("a", "b"))
    batch = ClipBatch(**{**vars(made_batch(np.zeros((0, 2)), [], [], [])), "left_out": ("a/x: gone",)})
    with pytest.warns(UserWarning, match="a/x: gone"):
        model.validation_step(batch)
    model.validation_step(batch)
    assert model.left_out == {"a/x: gone"}


def test_an_epoch_without_any_clip_is_an_error() -> None:
    model = ActionClassifier(_Lookup(2), ("a", "b"))
    model.on_train_epoch_start()
    model.left_out.add("a/x: gone")
    with pytest.raises(DataError, match="no training clip of this epoch could be read; the first: a/x: gone"):
        model.on_train_epoch_end()


def test_a_class_that_is_not_there_has_no_accuracy(logged: dict[str, float]) -> None:
    """The mean of the classes' accuracies is over those that are there, as in scikit-learn."""
    model = ActionClassifier(_Lookup(3), ("a", "b", "c"))
    pixels = np.array([[9, 1, 1], [9, 1, 1], [1, 1, 9], [1, 9, 1]])
    model.validation_step(made_batch(pixels, [0, 0, 1, 1], [0, 1, 2, 3], [0, 1, 2, 3]))
    model.on_validation_epoch_end()
    assert logged["val/clip_accuracy_macro"] == pytest.approx(0.75)
    assert "val/class_accuracy/c" not in logged


def _model(names: Sequence[str], **kwargs: int) -> ActionClassifier:
    return ActionClassifier(StackedFramesCNN(len(names), num_frames=4, size=12, **kwargs), names)  # type: ignore[arg-type]


def _checkpoint(model: ActionClassifier) -> dict[str, object]:
    checkpoint: dict[str, object] = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    return checkpoint


def test_a_checkpoint_of_another_network_says_which_layers_differ() -> None:
    checkpoint = _checkpoint(_model(["a", "b", "c"]))
    with pytest.raises(CheckpointError, match=r"head.3.weight is \[3, 512\] there and \[2, 512\] here") as found:
        _model(["a", "b"]).on_load_checkpoint(checkpoint)
    assert "vidact.models.stacked.StackedFramesCNN, 3 classes" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_checkpoint_of_other_classes_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"knows the classes \['a', 'b'\], the data has \['a', 'c'\]"):
        _model(["a", "c"]).on_load_checkpoint(_checkpoint(_model(["a", "b"])))


def test_what_is_no_checkpoint_of_a_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match="holds no network"):
        _model(["a", "b"]).on_load_checkpoint({"x": 1})


def test_its_own_checkpoint_is_accepted() -> None:
    _model(["a", "b"]).on_load_checkpoint(_checkpoint(_model(["a", "b"])))


def test_a_network_with_other_outputs_is_named() -> None:
    model = ActionClassifier(_Lookup(3), ("a", "b"))
    with pytest.raises(NetworkError, match=r"_Lookup returns .* shape \[1, 3\] for 1 clips; .* shape \[1, 2\]"):
        model(torch.zeros(1, 1, 1, 1, 3, dtype=torch.uint8))


def test_an_optimizer_that_refuses_its_settings_is_named() -> None:
    with pytest.raises(ConfigError, match="--model.optimizer: Invalid learning rate"):
        ActionClassifier(_Lookup(2), ("a", "b"), optimizer=lambda p: torch.optim.SGD(p, lr=-1))


def test_a_schedule_that_refuses_its_settings_is_named() -> None:
    with pytest.raises(ConfigError, match="--model.lr_scheduler: Expected positive integer T_0"):
        ActionClassifier(
            _Lookup(2),
            ("a", "b"),
            lr_scheduler=lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=0),
        )


class _Batches(LightningDataModule):
    """Batches of two classes that a `_Lookup` tells apart, in training and in validation."""

    def train_dataloader(self) -> DataLoader[ClipBatch]:
        batch = made_batch(np.array([[9, 1], [2, 7]]), [0, 1], [0, 1], [0, 1])
        return DataLoader([batch] * 3, batch_size=None, collate_fn=lambda one: one)  # type: ignore[arg-type]

    val_dataloader = train_dataloader


@pytest.mark.filterwarnings("ignore")
def test_the_names_of_the_measures_are_those_that_are_logged() -> None:
    model = ActionClassifier(_Lookup(2), ("a", "b"))
    trainer = Trainer(max_epochs=1, logger=False, accelerator="cpu", enable_checkpointing=False)
    trainer.fit(model, datamodule=_Batches())
    assert sorted(trainer.callback_metrics) == sorted(model.metric_names())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_of_half_precision_are_clipped_alike_with_a_fused_optimizer(
    algorithm: Literal["norm", "value"],
) -> None:
    """A scaler multiplies gradients by 65536; clipped before that is undone, they would all be too long."""

    def train(fused: bool) -> tuple[list[torch.Tensor], list[float]]:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
        model = ActionClassifier(network, ("a", "b"), optimizer=lambda p: torch.optim.Adam(p, lr=0.1, fused=fused))
        norms: list[float] = []

        class Look(Callback):
            def on_before_optimizer_step(self, trainer: Trainer, *args: object) -> None:
                gradients = [one.grad for one in model.parameters() if one.grad is not None]
                norms.append(max(float(one.abs().max()) for one in gradients))

        scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
        settings: dict[str, Any] = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": algorithm}
        settings |= {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)], "callbacks": [Look()], "max_epochs": 2}
        Trainer(**settings, logger=False, accelerator="cpu", enable_checkpointing=False).fit(
            model, datamodule=_Batches()
        )
        return [one.detach() for one in model.parameters()], norms

    (fused, found), (plain, expected) = train(True), train(False)
    assert found == pytest.approx(expected, rel=1e-3)
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_loss_that_takes_no_probabilities_is_named_where_clips_are_mixed() -> None:
    ActionClassifier(_Lookup(2), ("a", "b"), loss=torch.nn.MultiMarginLoss())
    with pytest.raises(ConfigError, match="MultiMarginLoss does not take them \\(.*; set both to 0"):
        ActionClassifier(_Lookup(2), ("a", "b"), loss=torch.nn.MultiMarginLoss(), mixup_alpha=0.3)


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (torch.nn.MSELoss(), "MSELoss does not .*size of tensor"),
        (torch.nn.BCEWithLogitsLoss(), "BCEWithLogitsLoss does not .*size"),
        (torch.nn.CrossEntropyLoss(reduction="none"), r"CrossEntropyLoss does not \(it gives \(4,\)\)"),
        (torch.nn.TripletMarginLoss(), "missing 1 required positional argument"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_loss_that_makes_no_number_of_labels_is_named(loss: torch.nn.Module, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as found:
        ActionClassifier(_Lookup(3), ("a", "b", "c"), loss=loss)
    assert str(found.value).startswith("--model.loss is given logits [B, K] and labels [B]")
    assert str(found.value).endswith("; try torch.nn.CrossEntropyLoss")


@pytest.mark.parametrize(("top_k", "is_logged"), [(2, True), (3, False), (9, False)])
def test_top_k_is_logged_only_where_there_are_more_than_k_classes(
    logged: dict[str, float], top_k: int, is_logged: bool
) -> None:
    model = ActionClassifier(_Lookup(3), ("a", "b", "c"), top_k=top_k)
    model.validation_step(made_batch(np.eye(3, dtype=int), [0, 1, 2], [0, 1, 2], [0, 1, 2]))
    model.on_validation_epoch_end()
    assert [name for name in logged if "_top" in name] == ["val/clip_top2_accuracy"] * is_logged


def test_top_k_is_at_least_one() -> None:
    with pytest.raises(ConfigError, match="--model.top_k must be at least 1, got 0"):
        ActionClassifier(_Lookup(2), ("a", "b"), top_k=0)


def test_the_optimizer_and_schedule_are_the_configs() -> None:
    model = ActionClassifier(
        _Lookup(2),
        ("a", "b"),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=1),
    )
    found = model.configure_optimizers()
    assert isinstance(found, dict)
    assert isinstance(found["optimizer"], torch.optim.SGD)
    assert found["optimizer"].defaults["lr"] == 0.5


class _Recorder(nn.Module):
    """A loss that keeps what it was given."""

    def forward(self, scores: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        self.label = label
        return nn.functional.cross_entropy(scores, label)


@pytest.mark.parametrize(
    "mixing", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 1.0, "cutmix_alpha": 1.0}]
)
def test_training_clips_are_mixed_with_their_labels(mixing: dict[str, float], logged: dict[str, float]) -> None:
    """The class is written in the first pixel's row: MixUp blends it, so scores and labels are blended alike."""
    torch.manual_seed(0)
    loss = _Recorder()
    model = ActionClassifier(_Lookup(3), ("a", "b", "c"), loss=loss, **mixing)
    model.training_step(made_batch(np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]]), [0, 1, 2], [0, 1, 2], [0, 1, 2]))
    assert loss.label.shape == (3, 3)
    torch.testing.assert_close(loss.label.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(loss.label.sum(dim=0), torch.ones(3))  # each clip is mixed into one other


def test_without_mixing_the_loss_is_given_labels(logged: dict[str, float]) -> None:
    loss = _Recorder()
    ActionClassifier(_Lookup(2), ("a", "b"), loss=loss).training_step(made_batch(np.array([[9, 1]]), [1], [0], [0]))
    assert loss.label.tolist() == [1]


def test_a_window_and_its_mirror_image_are_measured_together(logged: dict[str, float]) -> None:
    pixels = np.array([[60, 0, 20], [0, 10, 40]])
    model = ActionClassifier(_Lookup(3), ("a", "b", "c"), mirror_at_test=True)
    found = model.predict_step(made_batch(pixels, [0, 2], [0, 1], [0, 1]))["probabilities"]
    expected = (_softmax(pixels / 20) + _softmax(pixels[:, ::-1] / 20)) / 2
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)
