"""``python -m benchmarks.generation``: the generation engine beside the ``openai`` client, against the test server.

The server (``tests/endpoint/faulty_model_server.py``; it knows no language) answers every request after the same
time, so the ideal is ``in flight / latency`` replies a second. It has one core and the client another. Ours has
each reply checked, accounted and on disk before it counts; the peers keep nothing.

Then the engine alone: the memory over a long run, and how soon a run over as many finished prompts begins.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from msm_hpc.endpoint.replies import FILE

WAYS = ("ours", "openai", "openai-aiohttp")
SCRIPT = str(Path(__file__).resolve().parent / "peers" / "generate.py")
TEXT = "A cheese that everybody can afford, and what it says about us. " * 32  # 2 kB


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generation", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="that the ideal would take")
    parser.add_argument("--in-flight", type=int, default=512)
    parser.add_argument("--latencies", type=int, nargs="+", default=[250, 50], help="milliseconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--finished", type=int, default=1_000_000, help="prompts of the long run and of the resume")
    options = parser.parse_args()
    print("| latency | way | replies/s | of the ideal | replies per CPU-s |\n|---|---|---|---|---|")
    for latency in options.latencies:
        _compare(latency, options.in_flight, options.seconds, options.rounds)
    if options.finished:
        _alone(options.finished, options.in_flight)


def _compare(latency: int, in_flight: int, seconds: float, rounds: int) -> None:
    ideal = in_flight / (latency / 1000)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    with _server(latency) as url:
        for _ in range(rounds):
            for way in WAYS:
                count = int(min(ideal, 2000) * seconds) // (1 if way == "ours" else 4)
                found[way].append({"count": count, **_run(way, url, count, in_flight)})
    for way, runs in found.items():
        rate = median(run["count"] / run["wall"] for run in runs)
        per_cpu = median(run["count"] / run["cpu"] for run in runs)
        print(f"| {latency} ms | {way} | {rate:,.0f} | {rate / ideal:.0%} | {per_cpu:,.0f} |", flush=True)


def _alone(count: int, in_flight: int) -> None:
    with tempfile.TemporaryDirectory() as work, _server(0) as url:
        run = _run("ours", url, count, in_flight, Path(work))
        memory = " ".join(f"{each / 1e6:.0f}" for each in run["memory"])
        print(f"\n{count:,} prompts: {count / run['wall']:,.0f} replies/s; MB after each fifth: {memory}", flush=True)
        _lengthen(Path(work) / FILE)
        size = (Path(work) / FILE).stat().st_size
        again = _run("ours", url, count, in_flight, Path(work))
        print(
            f"again over {size / 1e9:.1f} GB of finished replies: the first after {again['first']:.1f} s, "
            f"{count / again['wall']:,.0f}/s; {again['memory'][-1] / 1e6:.0f} MB"
        )


def _lengthen(path: Path) -> None:
    """Give each reply a text as long as a short document's."""
    longer = path.with_suffix(".longer")
    with path.open("rb") as old, longer.open("wb") as new:
        new.writelines(line.replace(b'"text":"', f'"text":"{TEXT}'.encode(), 1) for line in old)
    longer.replace(path)


def _run(way: str, url: str, count: int, in_flight: int, folder: Path | None = None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        command = (sys.executable, SCRIPT, way, url, str(count), str(in_flight), str(folder or work))
        run = subprocess.run(_on_core(0, command), env=_environment(), stdout=subprocess.PIPE, check=True, text=True)
    measured: dict[str, Any] = json.loads(run.stdout)
    return measured


@contextlib.contextmanager
def _server(latency: int) -> Iterator[str]:
    command = (sys.executable, "-m", "tests.endpoint.faulty_model_server", "--latency-ms", str(latency))
    with subprocess.Popen(_on_core(1, command), env=_environment(), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def _on_core(core: int, command: Sequence[str]) -> list[str]:
    return ["taskset", "--cpu-list", str(core), *command]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


if __name__ == "__main__":
    main()
