"""Starts the ranks of a job as torchrun would, and is what they run.

Starting a rank costs seconds, so each is a fork of a process that has imported everything, and does several jobs one
after another, each in a fork again.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.training import HeldOut, Layout, Lora, TrainConfig, TrainInputs
from msm_hpc.training.megatron import cpu
from msm_hpc.training.megatron.zigzag import positions
from tests.training.warm import World, run_world


@dataclass(frozen=True)
class Job:
    """``train`` runs the stage; ``initial`` saves the weights that a run starts with; ``losses`` saves ``losses.pt``.

    The last one is, of each row of the plan alone, the loss of each token. ``kill_at`` kills all ranks when that step
    is done, ``kill_saving`` when a part of the resume checkpoint of that step is on disk. ``hit`` is (step, rank,
    signal): that rank sends itself the signal at the end of the step. ``hang`` is (step, rank, where): that rank stays
    there forever, in a ``loop`` or a ``collective`` that no other calls. ``poisoned`` is a token whose embedding is not
    a number. ``overlap`` has communication overlap with computation, as on a GPU.
    """

    config: TrainConfig
    inputs: TrainInputs
    out: Path
    kind: Literal["train", "initial", "losses"] = "train"
    kill_at: int | None = None
    kill_saving: int | None = None
    hit: tuple[int, int, int] | None = None
    hang: tuple[int, int, Literal["loop", "collective"]] | None = None
    poisoned: int | None = None
    overlap: bool = False


@dataclass(frozen=True)
class Ended:
    """How the ranks ended: exit status of each and what each wrote to stderr."""

    codes: list[int]
    errors: list[str]


def start_ranks(
    folder: Path, count: int, jobs: Sequence[Job], alone: bool = False, rank_0_holds_store: bool = False
) -> Ended:
    """Do ``jobs``, all of a layout of ``count`` ranks, and wait for the end.

    Where one rank fails the others are ended, as by srun; or, if they are left ``alone``, waited for. The ranks meet at
    a store of the starter, as with torchrun, or of rank 0, as with submitit.
    """
    file = folder / f"jobs-{count}-{jobs[0].out.name}.json"
    # As with torchrun, the starter holds the store at which a job's ranks meet: its port is bound before they start.
    stores = [TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in jobs]
    described = [asdict(job) | {"port": store.port} for job, store in zip(jobs, stores, strict=True)]
    if rank_0_holds_store:
        stores.clear()  # and its port is free
    file.write_text(json.dumps(described, default=str))
    logs = [file.with_suffix(f".{rank}.log") for rank in range(count)]
    environment = _environment() | {"TORCHELASTIC_USE_AGENT_STORE": str(not rank_0_holds_store)}
    return _fork_all(do_jobs, file, environment, logs, alone)


def call_in_ranks(folder: Path, count: int, function: Callable[[str], None], argument: Path) -> None:
    """``function(argument)`` in each of ``count`` ranks, which log to ``folder`` and must end well."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    logs = [folder / f"rank-{rank}.log" for rank in range(count)]
    _check(_fork_all(function, argument, _environment() | {"MASTER_PORT": str(store.port)}, logs))


def _environment() -> dict[str, str]:
    return dict(os.environ) | {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}


def _fork_all(
    function: Callable[[str], None],
    argument: Path,
    environment: dict[str, str],
    logs: Sequence[Path],
    alone: bool = False,
) -> Ended:
    for log in logs:
        log.unlink(missing_ok=True)
    name = f"{function.__module__}:{function.__qualname__}"
    codes = run_world(World(name, str(argument), environment, [str(log) for log in logs], alone))
    return Ended(codes, [log.read_text() for log in logs])


def do_all(folder: Path, count: int, jobs: Sequence[Job]) -> Ended:
    """:func:`start_ranks`, which must end well."""
    return _check(start_ranks(folder, count, jobs))


def _check(ended: Ended) -> Ended:
    assert not any(ended.codes), "\n".join(f"rank ended with {c}: {e}" for c, e in zip(*astuple(ended), strict=True))
    return ended


def _jobs(file: str) -> Iterator[tuple[Job, int]]:
    for raw in json.loads(Path(file).read_text()):
        port = raw.pop("port")
        config: dict[str, Any] = raw.pop("config")
        config["layout"] = Layout(**config["layout"])
        config["lora"] = Lora(**config["lora"]) if config["lora"] else None
        config["heldout"] = HeldOut(**config["heldout"]) if config["heldout"] else None
        inputs = _inputs(**raw.pop("inputs"))
        yield Job(config=TrainConfig(**config), inputs=inputs, out=Path(raw.pop("out")), **raw), port


def _inputs(model: str, plan: str, shards: dict[str, str], checkpoint: str | None, base: str | None) -> TrainInputs:
    return TrainInputs(
        model=Path(model),
        plan=Path(plan),
        shards={source: Path(folder) for source, folder in shards.items()},
        checkpoint=Path(checkpoint) if checkpoint else None,
        base=Path(base) if base else None,
    )


def do_jobs(file: str) -> None:
    """Each job but the last is a fork: Megatron never lets go of a model's groups, and gloo wakes threads for each."""
    *jobs, last = _jobs(file)
    for job, port in jobs:
        child = os.fork()
        if not child:
            _do(job, port)
            os._exit(0)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(f"{job.out.name} ended with {code}")
    _do(*last)


def import_all() -> None:
    """What the stage imports when it runs, so that forks need not."""
    import tensorboardX

    with cpu.redirected():
        from msm_hpc.training import callbacks, stage, trainer
        from msm_hpc.training.checkpoints import start
        from msm_hpc.training.data import integrity
        from msm_hpc.training.megatron import model

    assert all((callbacks, integrity, model, stage, start, tensorboardX, trainer))
    assert "wandb" not in sys.modules, "it takes two seconds, and is asked for by no run here"


def _do(job: Job, port: int) -> None:
    os.environ["MASTER_PORT"] = str(port)
    job.out.mkdir(exist_ok=True)
    if job.kind == "train":
        _train(job)
    else:
        _inspect(job)


def _train(job: Job) -> None:
    from msm_hpc.training import stage
    from msm_hpc.training.record import records
    from msm_hpc.training.watch import diagnosis, hangs, signals, watchdog

    class Killer(ProgressFile):
        def update(self, done: int) -> None:
            super().update(done)
            if done == job.kill_at:
                os.killpg(0, signal.SIGKILL)

    if job.kill_saving is not None:
        threading.Thread(target=_kill_when, args=(job.out / "resume", job.kill_saving), daemon=True).start()
    with (
        patch.object(records, "ProgressFile", Killer),
        patch.object(signals, "largest_of_all_ranks", _hitting(signals.largest_of_all_ranks, job)),
        patch.object(stage, "build", _building(stage.build, job)),
        patch.object(watchdog, "BEAT_SECONDS", 0.5),
        patch.object(diagnosis, "LIMIT_SECONDS", 8.0),
        patch.object(hangs, "HANG_SECONDS", 10.0),
    ):
        stage.run(job.config, job.inputs, job.out)


def _kill_when(resume: Path, step: int) -> None:
    while not list(resume.glob(f".step-{step:09d}.partial/*.distcp")):
        time.sleep(0.001)
    os.killpg(0, signal.SIGKILL)


def _hitting(agree: Callable[..., list[int]], job: Job) -> Callable[..., list[int]]:
    steps = itertools.count(1)

    def call(*own: int) -> list[int]:
        now = [next(steps), int(os.environ["RANK"])]
        if job.hit and now == list(job.hit[:2]):
            os.kill(os.getpid(), job.hit[2])
        if job.hang and now == list(job.hang[:2]):
            _hang(job.hang[2])
        return agree(*own)

    return call


def _hang(where: str) -> None:
    if where == "collective":
        torch.distributed.recv(torch.zeros(1), src=1 - int(os.environ["RANK"]))
    while True:
        time.sleep(0.01)


def _building(build: Callable[..., Any], job: Job) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        from msm_hpc.training.megatron import optimizer

        with patch.object(optimizer, "overlaps", lambda: job.overlap):
            trainable = build(*args)
        if job.poisoned is not None:
            trainable.chunks[0].embedding.word_embeddings.weight.data[job.poisoned] = float("nan")
        return trainable

    return call


def _inspect(job: Job) -> None:
    from msm_hpc.model.architecture import read_architecture
    from msm_hpc.training.megatron.groups import process_groups

    with process_groups(job.config.layout):
        from megatron.core import parallel_state
        from megatron.core.pipeline_parallel import get_forward_backward_func

        from msm_hpc.training import stage
        from msm_hpc.training.checkpoints.weights import save_weights
        from msm_hpc.training.data.batch import MicroBatch, micro_batch
        from msm_hpc.training.data.reader import open_data
        from msm_hpc.training.step import token_losses

        model = read_architecture(job.inputs.model)
        trainable = stage.build(job.config, model, job.inputs, steps=1)
        chunks = trainable.chunks
        if job.kind == "initial":
            save_weights(chunks, job.out / "checkpoint", trainable.adapter)
            return

        def forward(batches: Iterator[MicroBatch], module: torch.nn.Module) -> tuple[torch.Tensor, Any]:
            batch = next(batches)
            output = token_losses(module, batch)
            return output, lambda losses: (losses.sum(), torch.tensor(1), _whole_row(losses.detach(), batch, group))

        data = open_data(job.config, model, job.inputs)
        group = parallel_state.get_context_parallel_group()
        batches = [
            micro_batch(data.plan, data.shards, [row], data.shape).part(group.rank(), group.size())
            for row in range(len(data.plan))
        ]
        losses = get_forward_backward_func()(
            forward_step_func=forward,
            data_iterator=[iter(batches) for _ in chunks],
            model=list(chunks),
            num_microbatches=len(data.plan),
            seq_length=data.shape.width,
            micro_batch_size=1,
            forward_only=True,
        )
        if losses and torch.distributed.get_rank() == torch.distributed.get_world_size() - 1:
            torch.save(torch.cat(losses), job.out / "losses.pt")


def _whole_row(losses: torch.Tensor, batch: Any, group: Any) -> torch.Tensor:
    """[1, tokens] of all context-parallel ranks, in order."""
    if group.size() == 1:
        return losses.clone()
    parts = [torch.empty_like(losses) for _ in range(group.size())]
    torch.distributed.all_gather(parts, losses.contiguous(), group=group)
    edges = batch.boundaries.numpy().astype(np.int64)
    places = np.concatenate([positions(edges, rank, group.size()) for rank in range(group.size())])
    return torch.cat(parts, 1)[:, np.argsort(places)]
