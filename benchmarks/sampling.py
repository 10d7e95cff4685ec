"""``python -m benchmarks.sampling``: what asking a model and a judge costs beside the time that they take to answer.

A cell of the eval ``agentic``, as its two steps make it: each reply is asked for, checked, accounted and on disk, then
judged twice, scored and written as ``scores.parquet``. Model and judge are the test judge
(``tests/evals/judge_server.py``, no model), a process each, which answers every request after the same time. So the
ideal is ``requests / in flight`` rounds of that time. The server is there before the clock starts, and its CPU is not
counted.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.evals import SampleConfig, SampleInputs, ScoreConfig, ScoreInputs
from msm_hpc.config.serving import Serving
from msm_hpc.evals import sampling, scoring
from msm_hpc.serving import kept, served
from tests.evals.judge_server import JUDGE
from tests.serving.toy import without_weights

CELLS, JUDGEMENTS = 27, 2  # of the eval, and of each reply
SERVER = (sys.executable, "-m", "tests.evals.judge_server")


@dataclass(frozen=True)
class Cost:
    """What a step took, in seconds; ``ideal`` is what its server would."""

    cpu: float
    wall: float
    ideal: float

    def __add__(self, other: Cost) -> Cost:
        """One step after the other."""
        return Cost(self.cpu + other.cpu, self.wall + other.wall, self.ideal + other.ideal)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampling", description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=300, help="of each of the 27 cells")
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--latencies", type=float, nargs="+", default=[0.25, 6], help="seconds")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])  # of the servers
    print(
        "| replies take | step | requests | CPU ms a sample | wall s | ideal s | over |\n|---|---|---|---|---|---|---|"
    )
    for latency in given.latencies:
        with tempfile.TemporaryDirectory() as work:
            _measure(latency, given.samples, given.in_flight, Path(work))


def _measure(latency: float, samples: int, in_flight: int, work: Path) -> None:
    count = CELLS * samples
    replies, scores = work / "replies", work / "scores"
    for folder in (replies, scores):
        folder.mkdir()
    model = without_weights(work / "model")
    command = f"env MODEL={{model}} {' '.join(SERVER)} --latency-ms={latency * 1000} --port={{port}} --name={{name}}"
    serving = Serving(server="command", command=command, in_flight=in_flight)
    asked = SampleConfig(
        task="agentic", samples=samples, temperature=0.7, max_tokens=2000, prompts="p", serving=serving
    )
    with kept(), served(serving, model):  # the step finds it running
        sampled = _cost(lambda: sampling.run(asked, SampleInputs(model=model), replies), count, latency, in_flight)
    _print(latency, "sample", count, count, sampled)
    with _judge(latency, in_flight) as judge:
        config = ScoreConfig(eval="agentic", task="agentic", samples=samples, judge=judge, prompts="p")
        judgements = count * JUDGEMENTS
        scored = _cost(
            lambda: scoring.run(config, ScoreInputs(replies=replies), scores), judgements, latency, in_flight
        )
    _print(latency, "score", judgements, count, scored)
    _print(latency, "both", count + judgements, count, sampled + scored)
    table = pq.read_table(scores / "scores.parquet", filters=[("metric", "==", "verdict")])
    assert table.num_rows == count, f"{table.num_rows} verdicts of {count} samples"


def _cost(step: Callable[[], None], requests: int, latency: float, in_flight: int) -> Cost:
    began, used = time.perf_counter(), time.process_time()
    step()
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    return Cost(cpu, wall, math.ceil(requests / in_flight) * latency)


def _print(latency: float, step: str, requests: int, samples: int, cost: Cost) -> None:
    over = cost.wall / cost.ideal - 1
    cells = (f"{latency} s", step, f"{requests:,}", f"{cost.cpu / samples * 1000:.2f}")
    print("|", " | ".join((*cells, f"{cost.wall:.1f}", f"{cost.ideal:.1f}", f"{over:.1%}")), "|", flush=True)


@contextlib.contextmanager
def _judge(latency: float, in_flight: int) -> Iterator[Endpoint]:
    command = (*SERVER, f"--latency-ms={latency * 1000}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip().rpartition("=")[2]
            yield Endpoint(model=JUDGE, base_url=url, in_flight=in_flight)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
