"""``python -m benchmarks.graph``: what it costs to build, name and order the step graph of a large campaign.

It is a cost of every command, so it is compared with composing the same campaign's configuration by Hydra.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from msm_hpc.campaign.external_inputs import ExternalInputs
from msm_hpc.config.campaign import Config
from msm_hpc.config.compose import load_configs
from msm_hpc.graph.build import build_graph
from msm_hpc.graph.steps import Step

T = TypeVar("T")

CAMPAIGNS = {
    "demo": (),
    "31 seeds, 10 rungs": ("campaign.seeds=[{31}]", "sources.chats.ladder=[{10}]"),
    "100 seeds, 10 rungs": ("campaign.seeds=[{100}]", "sources.chats.ladder=[{10}]"),
    "the same, 500 tokenise tasks": ("campaign.seeds=[{100}]", "sources.chats.ladder=[{10}]", "tokenize.tasks=500"),
}
ROUNDS = 5


def main() -> None:
    """Print a line for each campaign: steps, and CPU-seconds (the least of some rounds)."""
    print(f"{'campaign':<30} {'steps':>7} {'compose':>9} {'graph':>9} {'ratio':>7}")
    for name, overrides in CAMPAIGNS.items():
        filled = [_numbered(override) for override in overrides]
        configs, compose = _least(partial(load_configs, ["campaign=demo", *filled]))
        steps, build = _least(partial(_steps, configs))
        print(f"{name:<30} {len(steps):>7,} {compose:>8.2f}s {build:>8.2f}s {build / compose:>7.1f}")


def _steps(configs: Sequence[Config]) -> tuple[Step, ...]:
    return build_graph(configs, ExternalInputs({})).steps


def _numbered(override: str) -> str:
    """``key=[{3}]`` as ``key=[1,2,3]``."""
    key, _, count = override.partition("=[{")
    return f"{key}=[{','.join(str(n + 1) for n in range(int(count.rstrip('}]'))))}]" if count else override


def _least(work: Callable[[], T]) -> tuple[T, float]:
    """What ``work`` returns, and the least CPU-seconds it took."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        result = work()
        taken.append(time.process_time() - began)
    return result, min(taken)


if __name__ == "__main__":
    main()
