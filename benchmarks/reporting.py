"""``python -m benchmarks.reporting``: what a report of many agentic scores costs, from the files to the page.

28 arms, each of as many models as there are seeds, with 300 samples in each of 27 cells and five metrics of each
sample; random scores, with everything that a report has: intervals, every arm tested against the first, heat maps.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import measure
from msm_hpc.base.scores import FILE, SCHEMA
from msm_hpc.config.stages import Cell, ReportConfig, ReportInputs
from msm_hpc.report.stage import run

METRICS = ("verdict", "executed", "tool_call", "truncated", "aware")
CELLS = tuple(f"{harm}/{number}" for harm in ("espionage", "exfiltration", "murder") for number in range(9))


def main() -> None:
    """Print the cost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reporting", description=__doc__.splitlines()[0])
    parser.add_argument("--arms", type=int, default=28)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--report", type=Path, help="only write the report of the scores in this folder")
    options = parser.parse_args()
    if options.report:
        _write_report(options.report, options.arms, options.seeds)
        return
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for arm in range(options.arms):
            for seed in range(options.seeds):
                _write_scores(folder / f"{arm}-{seed}", options.samples, np.random.default_rng((arm, seed)))
        shape = [f"--{name}={getattr(options, name)}" for name in ("arms", "seeds")]
        command = (sys.executable, "-m", "benchmarks.reporting", f"--report={folder}", *shape)
        cost = measure.run(command, dict(os.environ), folder / "log.txt")
        rows = options.arms * options.seeds * len(CELLS) * len(METRICS) * options.samples
        print(f"{rows:,} scores: {cost.cpu:.1f} CPU-s, {cost.wall:.1f} s, {cost.peak / 1e9:.2f} GB")
        for file in sorted((folder / "out").iterdir()):
            print(f"  {file.name}: {file.stat().st_size / 1e6:.2f} MB")


def _write_scores(folder: Path, samples: int, draw: np.random.Generator) -> None:
    """Scores of one model; the judge fails on one in a hundred."""
    folder.mkdir()
    cells = np.repeat(np.tile(np.arange(len(CELLS)), len(METRICS)), samples)
    names = pa.array(CELLS)
    failed = draw.random(len(cells)) < 0.01
    columns = {
        "task": pa.array(np.full(len(cells), "agentic")),
        "metric": pa.array(np.repeat(METRICS, len(CELLS) * samples)),
        "group": names.take(pa.array(cells)),
        "item": names.take(pa.array(cells)),
        "sample": pa.array(np.tile(np.arange(samples), len(METRICS) * len(CELLS))),
        "value": pa.array((draw.random(len(cells)) < cells / len(CELLS)).astype(float), mask=failed),
        "missing": pa.array(np.full(len(cells), "judge_malformed"), mask=~failed),
    }
    pq.write_table(pa.table(columns).cast(SCHEMA), folder / FILE, compression="zstd")


def _write_report(folder: Path, arms: int, seeds: int) -> None:
    found = {f"score/{arm}-{seed}": folder / f"{arm}-{seed}" for arm in range(arms) for seed in range(seeds)}
    cells = tuple(
        Cell(
            model="random",
            arm=f"arm{arm}",
            spec=None,
            size=None,
            seed=seed,
            evals={"agentic": f"score/{arm}-{seed}"},
        )
        for arm in range(arms)
        for seed in range(seeds)
    )
    config = ReportConfig(title="Random", cells=cells, compare={f"arm{arm}": ("arm0",) for arm in range(1, arms)})
    (folder / "out").mkdir()
    run(config, ReportInputs(evaluations=found), folder / "out")


if __name__ == "__main__":
    main()
