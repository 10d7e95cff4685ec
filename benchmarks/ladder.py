"""``python -m benchmarks.ladder``: what trainings cost that start from the same weights, in one job and in one each.

Three ways, in turns: a job for each training, as if they were not bundled; one job of all, with too little memory to
keep weights; and the same with enough. A job here is what a Slurm job runs on one rank, without Slurm; one thread,
fp32 on the CPU, one optimizer step each, so that nearly all is start, reading and saving.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks import training_inputs
from benchmarks.measure import Usage, run
from msm_hpc.campaign.views.ledger import Reason, ledger, tries_at
from msm_hpc.config.stages import Architecture, ModelConfig
from msm_hpc.graph.steps import Step
from msm_hpc.launch.allocation import MEMORY, VARIABLE
from msm_hpc.launch.job import RUN, local_job
from msm_hpc.launch.several import SEVERAL
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store
from tokenization.packing.pack import PackConfig
from tokenization.packing.selection import Take
from tokenization.tokenize import TokenizeConfig

ROW, ROWS = 64, 4
SHAPE = Architecture(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=ROW,
)
NOTHING_KEPT = {MEMORY: "1"}
"""A job of 1 MiB."""


@dataclass(frozen=True)
class Cost:
    """What trainings cost, and what the ledger says of their time, in milliseconds of the job."""

    usage: Usage
    spent: Counter[Reason]

    def share(self, *reasons: Reason) -> float:
        """The part of the time that went to these."""
        return sum(self.spent[each] for each in reasons) / self.spent.total()


def inputs(store: Store, work: Path, layers: int) -> Step:
    """A training that has been made, with what it reads; others are to start from its weights."""
    made = training_inputs.make(work, replace(SHAPE, num_hidden_layers=layers), ROW, ROWS)
    model = _published(store, Step("model", "toy", ModelConfig(architecture=SHAPE), {}), made.model)
    shard = _published(store, Step("tokenize", "words", TokenizeConfig(), {}), made.shards["words"])
    packing = PackConfig(sequence_length=ROW, sources=(Take(source="words"),))
    plan = _published(store, Step("pack", "words", packing, {"shards": {"words": shard}}), made.plan)
    config = replace(training_inputs.recipe("fp32", 1), sequence_length=ROW)
    parent = Step("train", "parent", config, {"model": model, "plan": plan, "shards": {"words": shard}})
    job(store, [parent], {})
    return parent


def _published(store: Store, step: Step, content: Path) -> Step:
    store.register((step,))
    folder = store.of(step)
    own = folder.attempt(1)
    assert own.take(Attempt(local_job(), "", 1, None, "", now()))
    content.rename(own.out)
    folder.publish(own)
    return step


def job(store: Store, steps: Sequence[Step], memory: dict[str, str]) -> Cost:
    """Make the steps in one job."""
    store.register(tuple(steps))
    store.jobs.mkdir(exist_ok=True)
    slurm = {"JOB_ID": str(uuid.uuid4().int)[:9], "NTASKS": "1", "JOB_NUM_NODES": "1", "NODEID": "0", "PROCID": "0"}
    given = {f"SLURM_{name}": value for name, value in slurm.items()} | {"SLURM_LOCALID": "0"}
    given |= {"SLURM_JOB_NODELIST": "n1", "SUBMITIT_EXECUTOR": "slurm", RUN: uuid.uuid4().hex, "OMP_NUM_THREADS": "1"}
    given |= {VARIABLE: f"{time.time()} 1 0"} | ({SEVERAL: "1"} if len(steps) > 1 else {}) | memory
    call = [str(store.jobs), "msm_hpc.campaign.runner:run_steps", str(store.root), *(step.id for step in steps)]
    command = [sys.executable, "-u", "-P", "-m", "msm_hpc.launch.entry", *call]
    usage = run(command, os.environ | given, store.jobs / "benchmark.log")
    tries = tries_at(map(store.of, steps))
    assert all(store.done(step) for step in steps), "a training failed; its log says why"
    spent = sum(ledger(tries, on_gpus=False).spent.values(), Counter[Reason]())
    return Cost(usage, spent)


def ladder(parent: Step, first_seed: int, count: int) -> list[Step]:
    """Trainings that start from ``parent``, none of which was made before."""
    seeds = range(first_seed, first_seed + count)
    given = {**parent.inputs, "checkpoint": parent}
    return [Step("train", f"seed {seed}", replace(parent.config, seed=seed), given) for seed in seeds]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ladder", description=__doc__)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--count", type=int, default=4, help="trainings of a ladder")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds: list[dict[str, Cost]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "runs")
        parent = inputs(store, Path(folder), options.layers)
        for number in range(options.rounds):
            steps = iter(ladder(parent, 1 + 3 * options.count * number, 3 * options.count))
            alone, read, kept = ([next(steps) for _ in range(options.count)] for _ in range(3))
            singles = [job(store, [step], {}) for step in alone]
            spent = sum((each.spent for each in singles), Counter[Reason]())
            usage = sum((each.usage for each in singles[1:]), singles[0].usage)
            costs = {"a job each": Cost(usage, spent), "one job, weights read by each": job(store, read, NOTHING_KEPT)}
            rounds.append(costs | {"one job, weights kept": job(store, kept, {})})
    print(f"{options.count} trainings of {options.layers} layers, medians of {options.rounds} rounds; of a training:")
    for name in rounds[0]:
        of_name = [costs[name] for costs in rounds]
        cpu = median(each.usage.cpu for each in of_name) / options.count
        wall = median(each.usage.wall for each in of_name) / options.count
        ratio = median(costs["a job each"].usage.cpu / costs[name].usage.cpu for costs in rounds)
        load = median(each.share("load", "idle in allocation") for each in of_name)
        print(f"{name:<30} {cpu:6.2f} CPU-s  {ratio:5.2f} times less  {wall:6.2f} s  {load:4.0%} start and load")


if __name__ == "__main__":
    main()
