"""``python -m tests.training.kill_drill FOLDER KILLS``: SIGKILL a random rank at a random instant, run again, compare.

A rank is a fork of this process, which has imported everything: a run takes seconds.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.distributed import TCPStore

from msm_hpc.config.training import HeldOut, TrainConfig, TrainInputs
from msm_hpc.training import stage
from msm_hpc.training.megatron import cpu
from tests.training.ranks import import_all
from tests.training.toy import TWO_RANKS, Corpus, read_checkpoint, read_exact, write_inputs

CONFIG = replace(TWO_RANKS, save_every=2, heldout=HeldOut(fields=("parity",), every=4))
RANKS = CONFIG.layout.world_size
LATEST = 0.1
"""Seconds after a step's end, at most, at which the rank is killed; a step takes about as long."""


@dataclass(frozen=True)
class Kill:
    """Rank ``rank`` was killed some time after step ``step``; ``resume`` names the resume checkpoints there were then.

    ``equal`` says whether the resumed run has, bit for bit, metrics, weights and held-out losses of the unbroken one.
    """

    step: int
    rank: int
    resume: tuple[str, ...]
    equal: bool


def drill(folder: Path, kills: int, seed: int = 0) -> Iterator[Kill]:
    """Kill a run so many times, each time a new one, and resume it."""
    import_all()
    gc.collect()
    gc.freeze()
    with cpu.redirected():
        inputs, unbroken = write_inputs(folder, Corpus(documents=100), num_hidden_layers=2), folder / "unbroken"
        assert _wait(_start(CONFIG, inputs, unbroken)) == [0] * RANKS, f"see the logs in {folder}"
        steps, chance = _steps_done(unbroken), random.Random(seed)
        for number in range(kills):
            out, step, rank = folder / f"killed-{number}", chance.randrange(1, steps), chance.randrange(RANKS)
            ranks = _start(CONFIG, inputs, out)
            while _steps_done(out) < step:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, LATEST))
            os.kill(ranks[rank], signal.SIGKILL)
            time.sleep(LATEST)
            for other in ranks:  # as srun does to the others
                os.kill(other, signal.SIGKILL)
            _wait(ranks)
            resume = tuple(sorted(path.name for path in (out / "resume").glob("*")))
            resumed = _wait(_start(CONFIG, inputs, out)) == [0] * RANKS
            yield Kill(step, rank, resume, resumed and _equal(out, unbroken))
            shutil.rmtree(out)


def _start(config: TrainConfig, inputs: TrainInputs, out: Path) -> list[int]:
    """Process ids of the ranks."""
    out.mkdir(exist_ok=True)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    port = store.port
    del store  # rank 0 holds the next one at its port, which is free again
    return [_fork(config, inputs, out, rank, port) for rank in range(RANKS)]


def _fork(config: TrainConfig, inputs: TrainInputs, out: Path, rank: int, port: int) -> int:
    child = os.fork()
    if child:
        return child
    log = os.open(out.with_suffix(f".{rank}.log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, sys.stderr.fileno())
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS)} | where
    status = 1
    try:
        stage.run(config, inputs, out)
        status = 0
    finally:
        os._exit(status)


def _wait(ranks: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]


def _steps_done(out: Path) -> int:
    file = out / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _equal(out: Path, unbroken: Path) -> bool:
    weights, expected = (read_checkpoint(folder / "checkpoint") for folder in (out, unbroken))
    return (
        read_exact(out) == read_exact(unbroken)
        and weights.keys() == expected.keys()
        and all(torch.equal(weights[key], expected[key]) for key in expected)
        and (out / "heldout.jsonl").read_bytes() == (unbroken / "heldout.jsonl").read_bytes()
    )


if __name__ == "__main__":
    kills = list(drill(Path(sys.argv[1]), int(sys.argv[2])))
    print(*kills, f"{sum(kill.equal for kill in kills)} of {len(kills)} equal", sep="\n")
