import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet, resnet18, resnet50
from torchvision.models import video as video_models
from torchvision.models.video import resnet as video_resnet
from zennit.core import RemovableHandleList

from vidact.attribution.graph.canonizers import MergeBatchNorm, build_canonizers, merged_parameters
from vidact.attribution.graph.pairs import batch_norm_pairs
from vidact.attribution.lrp.checks import find_obstacles
from vidact.attribution.lrp.explainer import LayerwiseRelevance
from vidact.models.residual import SlimResNet3D


def _seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Build in eval mode, with BatchNorm statistics and weights as a training could leave them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build().eval()
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.3, 2.0)  # type: ignore[arg-type]
                if module.affine:
                    nn.init.uniform_(module.weight, -1.5, 1.5)
                    nn.init.normal_(module.bias, std=0.3)
    return network


def _random(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def _canonize(network: nn.Module, clip: Tensor) -> RemovableHandleList:
    handles = RemovableHandleList()
    for canonizer in build_canonizers(clip):
        handles += canonizer.apply(network)
    return handles


def _small_s3d() -> nn.Module:
    network = video_models.s3d(num_classes=5)
    network.avgpool = nn.AvgPool3d((2, 2, 2), stride=1)  # its own needs 224 × 224 pixels
    return network


def _bottlenecks() -> nn.Module:
    return video_resnet.VideoResNet(
        video_resnet.Bottleneck, [video_resnet.Conv3DSimple] * 4, [1, 1, 1, 1], video_resnet.BasicStem, num_classes=5
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "r3d_18": (lambda: video_models.r3d_18(num_classes=5), (1, 3, 8, 32, 32)),
    "mc3_18": (lambda: video_models.mc3_18(num_classes=5), (1, 3, 4, 32, 32)),
    "r2plus1d_18": (lambda: video_models.r2plus1d_18(num_classes=5), (1, 3, 8, 32, 32)),
    "bottlenecks": (_bottlenecks, (1, 3, 8, 32, 32)),
    "s3d": (_small_s3d, (1, 3, 24, 64, 64)),  # three positions in time are left for its mean
    "resnet18": (lambda: resnet18(num_classes=5), (1, 3, 32, 32)),
    "resnet50": (lambda: resnet50(num_classes=5), (1, 3, 32, 32)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_canonized_network_scores_alike_by_other_modules_and_can_be_restored(name: str) -> None:
    """It has a module for each addition and no BatchNorm left."""
    build, shape = NETWORKS[name]
    network, picture = _seeded(build), _random(*shape)
    values = {key: value.clone() for key, value in network.state_dict().items()}
    objects, modules = [id(parameter) for parameter in network.parameters()], dict(network.named_modules())
    blocks = resnet.BasicBlock | resnet.Bottleneck | video_resnet.BasicBlock | video_resnet.Bottleneck
    num_blocks = sum(isinstance(module, blocks) for module in network.modules())
    norms = (nn.BatchNorm2d, nn.BatchNorm3d)
    assert any(isinstance(module, norms) for module in network.modules())
    before = network(picture)
    handles = _canonize(network, picture)
    # Random statistics through many layers: scores of any size, so relative to the largest.
    assert (network(picture) - before).abs().max() / before.abs().max() < 1e-5
    assert sum(type(module).__name__ == "Sum" for module in network.modules()) == num_blocks
    assert not any(isinstance(module, norms) for module in network.modules())
    handles.remove()
    assert [id(parameter) for parameter in network.parameters()] == objects
    assert dict(network.named_modules()) == modules
    assert not any("forward" in vars(module) for module in network.modules())
    found = network.state_dict()
    assert list(found) == list(values)
    assert all(torch.equal(found[key], value) for key, value in values.items())


def test_s3d_averages_in_a_module() -> None:
    network = _seeded(_small_s3d)
    expected = network(_random(1, 3, 24, 64, 64))
    handles = _canonize(network, _random(1, 3, 24, 64, 64))
    averaged: list[Tensor] = []
    pool = network.get_submodule("mean.0")
    assert isinstance(pool, nn.AdaptiveAvgPool3d)
    pool.register_forward_hook(lambda module, args, output: averaged.append(args[0]))
    network(_random(1, 3, 24, 64, 64))
    assert averaged[0].shape == (1, 5, 2, 1, 1), "more than one position is averaged"
    torch.testing.assert_close(averaged[0].mean(dim=(2, 3, 4)), expected, rtol=1e-4, atol=1e-5)
    handles.remove()
    assert not hasattr(network, "mean")


def test_a_canonized_network_can_be_copied() -> None:
    build, shape = NETWORKS["r3d_18"]
    network, video = _seeded(build), _random(*shape)
    _canonize(network, video)
    copied = copy.deepcopy(network)
    expected = network(video)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(copied(video), expected)


def test_a_network_is_explained_as_before_once_its_batch_norms_are_synchronised() -> None:
    """`--trainer.sync_batchnorm true` replaces them in the network that trains; a copy of it is explained."""
    network = _seeded(lambda: SlimResNet3D(num_classes=5, num_frames=8, size=16))
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    kinds = [{type(module) for module in part.modules()} for part in (network, synchronised)]
    assert nn.BatchNorm3d in kinds[0] - kinds[1]
    assert nn.SyncBatchNorm in kinds[1] - kinds[0]
    video, target = _random(2, 1, 8, 16, 16), torch.tensor([0, 3])
    assert len(batch_norm_pairs(synchronised, video)) == len(batch_norm_pairs(network, video)) > 0
    assert [obstacle.kind for obstacle in find_obstacles(synchronised, video)] == [
        b.kind for b in find_obstacles(network, video)
    ]
    relevance = []
    for part in (network, synchronised):
        with LayerwiseRelevance(part, composite="epsilon_plus") as explain:
            relevance.append(explain(video, target).relevance)
    assert torch.equal(*relevance)


LINEARS: dict[str, tuple[Callable[[bool], nn.Module], Callable[..., nn.Module], tuple[int, ...]]] = {
    "conv1d": (lambda bias: nn.Conv1d(4, 6, 3, bias=bias), nn.BatchNorm1d, (2, 4, 9)),
    "conv2d": (lambda bias: nn.Conv2d(4, 6, 3, stride=2, bias=bias), nn.BatchNorm2d, (2, 4, 9, 9)),
    "conv3d": (lambda bias: nn.Conv3d(4, 6, 3, groups=2, bias=bias), nn.BatchNorm3d, (2, 4, 5, 5, 5)),
    "transposed1d": (lambda bias: nn.ConvTranspose1d(4, 6, 3, bias=bias), nn.BatchNorm1d, (2, 4, 5)),
    "transposed2d": (lambda bias: nn.ConvTranspose2d(4, 6, 3, groups=2, bias=bias), nn.BatchNorm2d, (2, 4, 5, 5)),
    "transposed3d": (lambda bias: nn.ConvTranspose3d(4, 6, 3, bias=bias), nn.BatchNorm3d, (2, 4, 3, 3, 3)),
    "linear": (lambda bias: nn.Linear(4, 6, bias=bias), nn.BatchNorm1d, (2, 4)),
}


@pytest.mark.parametrize("kind", LINEARS)
@pytest.mark.parametrize(("bias", "affine", "eps"), [(True, True, 1e-5), (False, True, 1e-1), (False, False, 1e-5)])
def test_a_batch_norm_merges_exactly(kind: str, bias: bool, affine: bool, eps: float) -> None:
    build, norm, shape = LINEARS[kind]
    network = _seeded(lambda: nn.Sequential(build(bias), norm(6, eps=eps, affine=affine))).double()
    values = _random(*shape).double() - 0.5
    expected = network(values)
    instances = MergeBatchNorm(values).apply(network)
    assert len(instances) == 1
    assert isinstance(network[1], nn.Identity)
    assert (network(values) - expected).abs().max() < 1e-12
    assert (network[0](values) - expected).abs().max() < 1e-12  # type: ignore[operator]
    instances[0].remove()
    assert torch.equal(network(values), expected)
    assert network[0].bias is None or bias


def test_merged_parameters_are_the_formula() -> None:
    network = _seeded(lambda: nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, eps=0.5)))
    linear, norm = network
    weight, bias = merged_parameters(linear, norm)
    for j in range(2):
        scale = norm.weight[j] / (norm.running_var[j] + 0.5) ** 0.5
        torch.testing.assert_close(weight[j], scale * linear.weight[j])
        torch.testing.assert_close(bias[j], scale * (linear.bias[j] - norm.running_mean[j]) + norm.bias[j])


def _alone(batch_norm: nn.Module) -> list[nn.Module]:
    return [nn.Linear(4, 4), batch_norm]


class _Branching(nn.Module):
    """Its layer and the BatchNorm behind it are neighbours by definition, but others see the layer's output too."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, values: Tensor) -> Tensor:
        hidden = self.linear(values)
        return self.norm(hidden) + hidden  # type: ignore[no-any-return]


def test_what_cannot_be_merged_is_left_alone() -> None:
    shared = nn.Linear(4, 4)
    parametrized = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    for layers in (
        _alone(nn.BatchNorm1d(4, track_running_stats=False)),
        _alone(nn.LayerNorm(4)),
        [nn.Linear(4, 4), nn.ReLU(), nn.BatchNorm1d(4)],
        [nn.BatchNorm1d(4), nn.Linear(4, 4)],
        [shared, nn.BatchNorm1d(4), shared, nn.BatchNorm1d(4)],
        [parametrized, nn.BatchNorm1d(4)],
    ):
        assert batch_norm_pairs(nn.Sequential(*layers).eval(), _random(3, 4)) == []
    assert batch_norm_pairs(nn.Sequential(*_alone(nn.BatchNorm1d(4))), _random(3, 4)) == [], "in training mode"
    assert batch_norm_pairs(_Branching().eval(), _random(3, 4)) == []


def test_a_batch_norm_merges_into_the_end_of_nested_layers() -> None:
    inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4)))
    network = nn.Sequential(inner, nn.Sequential(nn.BatchNorm1d(4), nn.ReLU())).eval()
    (pair,) = batch_norm_pairs(network, _random(3, 4))
    assert (pair.linear, pair.batch_norm) == (inner[2][0], network[1][0])


def test_layers_that_share_a_weight_with_the_merged_one_stay_as_they_are() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    network = _seeded(lambda: nn.Sequential(first, nn.ReLU(), second, nn.BatchNorm1d(4)))
    values = _random(3, 4)
    expected = network(values)
    MergeBatchNorm(values).apply(network)
    torch.testing.assert_close(network(values), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bottlenecks", "s3d"])  # of the others test_contract.py says it
def test_relevance_adds_up_to_the_score_of_torchvisions_networks(name: str) -> None:
    """Without the canonizer of residual blocks it is 256 times the score for r3d_18."""
    build, shape = NETWORKS[name]
    with LayerwiseRelevance(_seeded(build)) as explain:
        explanation = explain(_random(*shape), torch.tensor([1]))
    assert (explanation.conservation - 1).abs().max() < 1e-3
