"""Files with weights, good and bad; a small module stands for torchvision's network."""

import hashlib
import io
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from file_server import serve_files
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models.video import s3d

from vidact.core.errors import CheckpointError, EnvironmentProblem
from vidact.models.pretrained import TorchvisionVideoNet
from vidact.models.weights import KINETICS, load_pretrained, trained_statistics


def _network(seed: int = 0, classes: int = 4) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = {"stem": nn.Conv3d(3, 2, 3), "norm": nn.BatchNorm3d(2), "fc": nn.Linear(2, classes)}
        return nn.Sequential(OrderedDict(layers))


def _load(network: nn.Module, path: Path | str) -> dict[str, Tensor]:
    return load_pretrained(network, "r3d_18", weights=str(path), head="fc.")


def _saved(state: object, path: Path, *, legacy: bool = False) -> Path:
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_fills_all_but_the_head(tmp_path: Path, legacy: bool) -> None:
    trained, network = _network(seed=1, classes=9), _network()
    untouched = network.fc.weight.clone()  # type: ignore[operator, union-attr]
    head = _load(network, _saved(trained.state_dict(), tmp_path / "weights.pth", legacy=legacy))
    for name, value in trained.state_dict().items():
        if not name.startswith("fc."):
            torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)
    torch.testing.assert_close(network.fc.weight, untouched, rtol=0, atol=0)
    torch.testing.assert_close(head["weight"], trained.fc.weight.detach(), rtol=0, atol=0)  # type: ignore[union-attr]
    assert set(head) == {"weight", "bias"}


def test_a_file_without_head_and_counters_is_taken(tmp_path: Path) -> None:
    state = {name: value for name, value in _network(1).state_dict().items() if "fc" not in name and "num" not in name}
    network = _network()
    assert _load(network, _saved(state, tmp_path / "weights.pth")) == {}
    torch.testing.assert_close(network.stem.weight, state["stem.weight"])  # type: ignore[arg-type]


def test_a_file_of_another_network_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    state = _network(1).state_dict()
    state["stem.weight"] = state["stem.weight"][:1]
    state["tail.weight"] = torch.zeros(3)
    del state["norm.bias"]
    network = _network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    path = _saved(state, tmp_path / "weights.pth")
    with pytest.raises(
        CheckpointError, match=r"not those of r3d_18: 3 entries .*stem.weight, norm.bias, tail.weight\)"
    ):
        _load(network, path)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


class _Foreign:
    """Something that only a pickle can hold."""


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", r"not a whole state_dict .*0 bytes"),
        (b"<html>sign in</html>", r"not a whole state_dict .*20 bytes"),
        (pickle.dumps(_Foreign()), "not a whole state_dict"),
    ],
    ids=["empty", "web page", "foreign pickle"],
)
def test_a_file_that_is_no_state_dict_is_named(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=named) as caught:
        _load(_network(), path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [({"own": {}, "epoch": 3}, "got the keys own, epoch"), ([torch.zeros(2)], "got list")],
)
def test_other_content_is_described(tmp_path: Path, content: object, named: str) -> None:
    with pytest.raises(CheckpointError, match=f"expected a state_dict, that is names and tensors; {named}"):
        _load(_network(), _saved(content, tmp_path / "weights.pth"))


def test_a_cut_file_and_a_flipped_bit_are_found(tmp_path: Path) -> None:
    whole = _saved(_network().state_dict(), tmp_path / "weights.pth").read_bytes()
    path = tmp_path / "bad.pth"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a whole state_dict"):
        _load(_network(), path)
    weight = _network().stem.weight.detach().numpy().tobytes()  # type: ignore[operator, union-attr]
    place = whole.index(weight)
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(CheckpointError, match=r"the part .*/data/\d+ is damaged; try another copy"):
        _load(_network(), path)


@pytest.mark.parametrize("name", ["missing.pth", "."])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="no such file; expected 'kinetics400' or a state_dict's path"):
        _load(_network(), tmp_path / name)


def test_an_address_is_refused() -> None:
    with pytest.raises(CheckpointError, match="addresses are refused; download the file and give its path"):
        _load(_network(), "https://example.org/weights.pth")


@pytest.mark.parametrize(
    ("names", "mean", "std"),
    [
        (["r3d_18", "mc3_18", "r2plus1d_18", "s3d"], [0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989]),
        (["swin3d_t", "swin3d_s", "swin3d_b"], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        (["mvit_v1_b", "mvit_v2_s"], [0.45, 0.45, 0.45], [0.225, 0.225, 0.225]),
    ],
)
def test_mean_and_deviation_are_the_published_ones(names: list[str], mean: list[float], std: list[float]) -> None:
    for name in names:
        assert trained_statistics(name) == (mean, std)


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub, and no proxy between the test and its own server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "torch" / "hub" / "checkpoints"


def _publish(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(get_model_weights("s3d").KINETICS400_V1.value, "url", url)


def test_kinetics_weights_are_downloaded_once(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        trained = s3d()
    content = io.BytesIO()
    torch.save(trained.state_dict(), content)
    name = f"s3d-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.pth"
    with serve_files() as server:
        server.put(name, content.getvalue())
        _publish(monkeypatch, f"{server.url}/{name}")
        networks = [TorchvisionVideoNet(classes, name="s3d", weights=KINETICS) for classes in (400, 3)]
        assert len(server.asked) == 1
    assert capsys.readouterr().out == "", "the download speaks on the standard output"
    expected = trained.get_parameter("features.5.branch1.0.0.weight")
    for network in networks:
        torch.testing.assert_close(network.get_parameter("stages.mixed3.5.branch1.0.0.weight"), expected)
    torch.testing.assert_close(networks[0].head[-1].bias, trained.get_parameter("classifier.1.bias"))
    assert networks[1].head[-1].weight.shape == (3, 1024)
    assert [path.name for path in torch_home.iterdir()] == [name]


def test_a_server_that_fails_is_named_and_the_way_around_it(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_files() as server:
        url = f"{server.url}/s3d-01234567.pth"
        _publish(monkeypatch, url)
        with pytest.raises(
            EnvironmentProblem, match="could not be brought from .*404.*download them by hand"
        ) as caught:
            load_pretrained(_network(), "s3d", weights=KINETICS, head="fc.")
    assert url in str(caught.value)
    with pytest.raises(EnvironmentProblem, match="could not be brought from"):  # nobody listens any more
        load_pretrained(_network(), "s3d", weights=KINETICS, head="fc.")


def test_a_damaged_download_is_named_with_what_to_delete(torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_files() as server:
        server.put("s3d-01234567.pth", b"sign in")
        _publish(monkeypatch, f"{server.url}/s3d-01234567.pth")
        with pytest.raises(CheckpointError, match="are damaged .*invalid hash value"):
            load_pretrained(_network(), "s3d", weights=KINETICS, head="fc.")
    assert not list(torch_home.iterdir())
    kept = torch_home / "s3d-01234567.pth"
    kept.write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="are damaged") as caught:
        load_pretrained(_network(), "s3d", weights=KINETICS, head="fc.")
    assert f"delete {kept}" in str(caught.value)
