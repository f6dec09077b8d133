"""What one run of some work costs: time, and the memory that it holds at once."""

import statistics
import time
from collections.abc import Callable, Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds_of(work: Callable[[], object]) -> float:
    """Measure how long one run takes."""
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(works: Mapping[str, Callable[[], object]], *, num_rounds: int) -> dict[str, list[float]]:
    """Measure how long each work takes, round by round side by side."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(num_rounds):
        for name, work in works.items():
            seconds[name].append(seconds_of(work))
    return seconds


def gradient_of(network: nn.Module, video: Tensor) -> Callable[[], Tensor]:
    """Give the work that others are compared with: one gradient of a logit, times the clip."""

    def gradient() -> Tensor:
        leaf = video.detach().requires_grad_()
        (found,) = torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)
        return found * video

    return gradient


def peak_megabytes(explain: Callable[[], Tensor]) -> float:
    """Measure the most that one run holds at once, beyond network and clips."""
    if DEVICE.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        explain()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        explain()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return float(max(held)) / 1e6


def median_ratio(seconds: list[float], others: list[float]) -> float:
    """Compare rounds that ran side by side."""
    return statistics.median(one / other for one, other in zip(seconds, others, strict=True))
