"""The tokeniser against its peers: CPU-seconds of whole process trees, on the same two cores.

``python -m benchmarks.tokenization`` makes the tokenizers and the corpora, runs every case ``--runs`` times in turn
(so that a slow minute of the machine falls on all), prints a table of medians, and compares the ids that came out.
README.md beside this file says how to install the peers and how to read the table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import orjson

from benchmarks import ids, measure, report
from benchmarks.cases import Case, Job, Peers, engine_alone, ours
from benchmarks.inputs import CHATS, FEW_CHATS, LARGE, Inputs, sizes
from benchmarks.report import Result

ROOT = Path(__file__).resolve().parent.parent
THREADS = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "2"}
TOKEN_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """All that is run.

    Attributes:
        pairs: groups of which the second has more of the same: what that costs, less what the first does, is marginal.
    """

    cases: tuple[Case, ...]
    engine: tuple[Job, ...]
    pairs: tuple[tuple[str, str], ...]


def main() -> None:
    """Run it all."""
    options = _options()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    environment = {**os.environ, **THREADS, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    work = options.work or Path(tempfile.mkdtemp(prefix="benchmark-"))
    subprocess.run([sys.executable, "-m", "benchmarks.inputs", work, str(options.mb), *options.text], check=True)
    inputs = Inputs(work, tuple(options.text))
    plan = _plan(inputs, Peers(options.peers_python, options.megatron), options.mb)
    usages: dict[Case, list[measure.Usage]] = {case: [] for case in plan.cases}
    for turn in range(options.runs):
        for case in plan.cases:
            usages[case].append(_run(case, environment, work))
            print(f"run {turn + 1}: {case.group}: {case.name}: {usages[case][-1].cpu:.2f} CPU-s", file=sys.stderr)
    engines = {
        (name, job.group): cost
        for job in plan.engine
        for name, cost in _engines(job, environment, work, options.runs).items()
    }
    results = [_result(case, usages[case]) for case in plan.cases]
    text = report.text(results, engines, plan.pairs, ids.compare(plan.cases), inputs.notes())
    print(text)
    if options.out:
        options.out.write_bytes(orjson.dumps({"results": results, "engines": [*engines.items()], "text": text}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tokenization", description=__doc__.splitlines()[0])
    parser.add_argument("--megatron", type=Path, help="a checkout of Megatron-LM; without, its two tools are left out")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has the peers' packages")
    parser.add_argument(
        "--mb", type=int, default=100, help=f"size of the corpus; others have {LARGE} times and 1/{LARGE}"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--text", action="append", default=[], metavar="GLOB", help="more text for the corpora")
    parser.add_argument("--work", type=Path, help="folder for inputs and outputs, kept for the next time")
    parser.add_argument("--out", type=Path, help="write the results as JSON too")
    return parser.parse_args()


def _plan(inputs: Inputs, peers: Peers, mb: int) -> Plan:
    corpora = [*map(inputs.documents, sizes(mb)), inputs.ten_documents()]
    cases: list[Case] = []
    engine: list[Job] = []
    pairs: list[tuple[str, str]] = []
    for tokenizer in (inputs.tokenizer("llama3"), inputs.tokenizer("qwen25")):
        quarter, whole, large, ten = (
            Job(corpus, tokenizer, inputs.work / "out" / corpus.stem / tokenizer.name) for corpus in corpora
        )
        cases += [ours(quarter), *peers.on_documents(whole)]
        cases += [*peers.on_many_documents(large), *peers.on_many_documents(ten)]
        engine += [quarter, whole, large]
        pairs += [(quarter.group, whole.group), (whole.group, large.group)]
    few, many = (
        Job(corpus, inputs.chat_tokenizer(), inputs.work / "out" / corpus.stem)
        for corpus in map(inputs.chats, (FEW_CHATS, CHATS))
    )
    cases += [*peers.on_chats(few), *peers.on_chats(many)]
    return Plan(tuple(cases), tuple(engine), (*pairs, (few.group, many.group)))


def _run(case: Case, environment: Mapping[str, str], work: Path) -> measure.Usage:
    shutil.rmtree(case.out, ignore_errors=True)
    case.out.mkdir(parents=True)
    total = measure.Usage(0, 0, 0)
    for command in case.commands:
        total += measure.run(command, environment, work / "log.txt")
    return total


def _result(case: Case, usages: Sequence[measure.Usage]) -> Result:
    return Result(
        group=case.group,
        name=case.name,
        cpu=median(usage.cpu for usage in usages),
        wall=median(usage.wall for usage in usages),
        peak=max(usage.peak for usage in usages),
        tokens=sum(path.stat().st_size for path in case.out.rglob("*.bin")) // TOKEN_BYTES,
        runs=tuple(usage.cpu for usage in usages),
    )


def _engines(job: Job, environment: Mapping[str, str], work: Path, runs: int) -> dict[str, float]:
    """CPU-seconds of encoding alone, medians, by engine."""
    log = work / "log.txt"

    def once() -> dict[str, float]:
        measure.run(engine_alone(job), environment, log)
        costs: dict[str, float] = orjson.loads(log.read_bytes())
        return costs

    costs = [once() for _ in range(runs)]
    return {name: median(cost[name] for cost in costs) for name in costs[0]}


if __name__ == "__main__":
    main()
