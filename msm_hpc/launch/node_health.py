"""How fast nodes compute, against what this root folder's nodes did before.

A node may answer every query of ``nvidia-smi`` and still run at half its speed, and with it every rank that waits for
it. So each rank times a product of matrices, and the ranks of each node a sum over all of them. Rank 0 adds a line for
each node to ``ROOT/health.jsonl``, and holds it against the newest line of every other node with as many ranks on the
same device. Without GPUs it is the CPU that is timed. By hand, for one rank on this node (exit status 1: unfit)::

    python -m msm_hpc.launch.node_health /shared/msm
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch import distributed

from msm_hpc.launch.job import current_node
from msm_hpc.launch.ranks import Ranks, current_ranks

FILE = "health.jsonl"
FEWEST_OTHERS = 3
"""Nodes that must have been measured before one is held against them."""
SLOWEST = 0.5
"""Share of the median of the others below which a node is unfit."""
REPEATS = 5
_TIMEOUT = timedelta(minutes=5)
Value = TypeVar("Value")


@dataclass(frozen=True)
class NodeHealth:
    """One node: the TFLOP/s of its slowest rank, and the GB/s that its ranks sum, None of a single rank."""

    host: str
    device: str
    ranks: int
    matmul: float
    all_reduce: float | None
    at: float


@contextmanager
def meeting(ranks: Ranks) -> Iterator[None]:
    """The ranks of a job can gather what they found; by gloo, since GPUs may be what is wrong with a node."""
    if ranks.world_size == 1:
        yield
        return
    os.environ.update(replace(ranks, run=f"{ranks.run}.health").environment())  # the training meets by another port
    distributed.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def gathered(value: Value) -> list[Value]:
    """The ``value`` of each rank, on all of them, in the order of the ranks; called by all, in their meeting."""
    if not distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def measure(ranks: Ranks) -> list[NodeHealth]:
    """Time the ranks of a job, all of which call this in their meeting; returns a row for each node."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", ranks.local_rank % torch.cuda.device_count()) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    name = torch.cuda.get_device_name(device) if gpu else "cpu"
    alone = NodeHealth(current_node(), name, 1, _matmul(device), None, time.time())
    hosts = gathered(alone.host)
    members = {host: [rank for rank, other in enumerate(hosts) if other == host] for host in dict.fromkeys(hosts)}
    backend = "nccl" if gpu else "gloo"
    several = {host: there for host, there in members.items() if len(there) > 1}
    groups = {host: distributed.new_group(there, backend=backend) for host, there in several.items()}
    rate = _all_reduce(device, groups[alone.host]) if alone.host in groups else None
    found = gathered(replace(alone, ranks=len(members[alone.host]), all_reduce=rate))
    return [min((each for each in found if each.host == host), key=lambda each: each.matmul) for host in members]


def _matmul(device: torch.device) -> float:
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (512, torch.float32)
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    return 2 * size**3 / _seconds(lambda: matrix @ matrix, device) / 1e12


def _all_reduce(device: torch.device, group: Any) -> float:
    values = torch.ones(2**26 if device.type == "cuda" else 2**20, device=device)
    seconds = _seconds(lambda: distributed.all_reduce(values, group=group), device)
    return values.numel() * values.element_size() / seconds / 1e9


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The shortest of a few runs, after one that warms up."""
    times = []
    for _ in range(1 + REPEATS):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def unfit(measured: Iterable[NodeHealth], earlier: Sequence[NodeHealth]) -> dict[str, str]:
    """The nodes that are far slower than their like were, each with the reason."""
    reasons: dict[str, str] = {}
    for node in measured:
        like = {each.host: each for each in earlier if (each.device, each.ranks) == (node.device, node.ranks)}
        others = [each for host, each in like.items() if host != node.host]
        for what, unit in (("matmul", "TFLOP/s"), ("all_reduce", "GB/s")):
            rates = [rate for each in others if (rate := getattr(each, what)) is not None]
            own = getattr(node, what)
            if own is None or len(rates) < FEWEST_OTHERS or own >= SLOWEST * median(rates):
                continue
            reasons[node.host] = (
                f"{what} at {own:.3g} {unit}; the median of {len(rates)} other nodes of {node.ranks} rank(s) on "
                f"{node.device} is {median(rates):.3g}"
            )
    return reasons


def record(root: Path, measured: Iterable[NodeHealth]) -> dict[str, str]:
    """Add ``measured`` to what ``root`` knows; returns those of its nodes that are unfit, each with the reason."""
    nodes, earlier = list(measured), [*_read(root / FILE)]
    with (root / FILE).open("a") as opened:
        opened.write("".join(f"{json.dumps(asdict(node))}\n" for node in nodes))
    return unfit(nodes, earlier)


def _read(file: Path) -> Iterator[NodeHealth]:
    for line in file.read_text().splitlines() if file.exists() else ():
        with suppress(ValueError, TypeError):  # jobs may have written into each other's line
            yield NodeHealth(**json.loads(line))


def main() -> int:
    """Check the node that this runs on; returns the exit status."""
    ranks = current_ranks()
    with meeting(ranks):
        measured = measure(ranks)
    reasons = record(Path(sys.argv[1]), measured)
    for node in measured:
        reason = reasons.get(node.host)
        print(f"FAIL  {node.host}: {reason}" if reason else f"ok    {node.host}: {node.matmul:.3g} TFLOP/s")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main())
