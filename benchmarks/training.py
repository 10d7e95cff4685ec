"""``python -m benchmarks.training``: tokens per CPU-second of our loop, of bare Megatron and of plain ``transformers``.

Each loop runs in a process of its own, once short and once long; the difference is the cost of the steps, without
start-up. A round runs all loops in turn, so that a slow minute affects all; ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from benchmarks import measure
from benchmarks.loops import LOOPS
from benchmarks.training_inputs import ROW, ROWS, make

SHORT, LONG = 1, 6
"""Epochs."""


def main() -> None:
    """Print a table for each precision."""
    options = _options()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        make(work)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        for precision in options.precision:
            rounds = [_round(precision, work, environment) for _ in range(options.rounds)]
            print(f"\n| {precision} | tokens per CPU-s | ours is faster by |\n|---|---|---|")
            for name in LOOPS:
                rate = median(each[name] for each in rounds)
                ratio = median(each["ours"] / each[name] for each in rounds)
                print(f"| {name} | {rate:.0f} | {ratio:.3f} |", flush=True)


def _round(precision: str, work: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """Tokens per CPU-second of every loop."""
    tokens = (LONG - SHORT) * ROWS * ROW
    rates = {}
    for name in LOOPS:
        seconds = [
            measure.run(
                [sys.executable, "-m", "benchmarks.loops", name, str(work), precision, str(epochs)],
                environment,
                work / "log.txt",
            ).cpu
            for epochs in (SHORT, LONG)
        ]
        rates[name] = tokens / (seconds[1] - seconds[0])
    return rates


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for inputs, kept for the next time")
    return parser.parse_args()


if __name__ == "__main__":
    main()
