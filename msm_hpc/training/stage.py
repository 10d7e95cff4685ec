"""The training stage: ``run`` is called in the process of every rank.

A killed run is called again with the same ``out`` and goes on from the newest resume point; the result is the one of a
run that was never killed. ``out/checkpoint`` and ``out/summary.json`` appear at the end, and then ``out/resume`` goes.

Modules that import Megatron are imported inside functions here: when :func:`.megatron.cpu.redirected` is open, which
spares a CPU the compiler, and not at all by those who only want this file's names.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json, write_json
from msm_hpc.config.training import TrainConfig
from msm_hpc.model import precision
from msm_hpc.model.architecture import Transformer, read_architecture
from msm_hpc.model.layout import check_layout
from msm_hpc.training.data import SampleOrder
from msm_hpc.training.megatron import cpu
from msm_hpc.training.megatron.device import before_cuda, peak_memory
from msm_hpc.training.megatron.groups import process_groups
from msm_hpc.training.megatron.zigzag import row_shape
from msm_hpc.training.record.records import Records
from msm_hpc.training.record.summary import announce, summarise
from msm_hpc.training.record.tensorboard import check_wandb
from msm_hpc.training.watch.hangs import Pace
from msm_hpc.training.watch.signals import StopRequest, largest_of_all_ranks, noticed, stopped
from msm_hpc.training.watch.watchdog import watched
from tokenization.errors import BadInput
from tokenization.packing.plan import Plan

if TYPE_CHECKING:
    from msm_hpc.training.heldout import HeldOutLoss
    from msm_hpc.training.loop import Data
    from msm_hpc.training.megatron.optimizer import Trainable

SHARDS = "shards/"


@dataclass(frozen=True)
class Run:
    """What all steps of a run share; ``consumed`` gives the digest of the samples of the first so many steps."""

    config: TrainConfig
    trainable: Trainable
    data: Data
    out: Path
    request: StopRequest
    pace: Pace
    held_out: HeldOutLoss | None
    consumed: Callable[[int], str]


def run(config: TrainConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Train, as one rank of ``config.layout.world_size``.

    Args:
        config: what to do.
        inputs: ``model`` (a model step's output), ``plan`` (a pack step's), ``shards/<source>/<index>`` (tokenise
            steps') and, unless weights are to be drawn from ``config.seed``, ``checkpoint`` (a train or model step's).
        out: an existing folder, kept from an earlier try of the same run.

    Raises:
        UserError: the layout does not fit the model or the number of ranks, the data is not for this model, or the
            loss is no longer finite.
        StoppedBySignalError: SIGINT, SIGUSR2 or SIGTERM came, and a resume point is saved, from which the next call
            goes on.
        RankLostError: another rank failed, died or stands still.
    """
    logging.getLogger("megatron").setLevel(logging.WARNING)
    before_cuda()
    with cpu.redirected():
        model = read_architecture(inputs["model"])
        check_layout(config.layout, model, config.sequence_length)
        precision.check_here(config, model)
        check_wandb(config.wandb)
        with noticed() as request, process_groups(config.layout, config.seed), watched(request) as pace:
            if not _finished_before(out):
                _train(config, model, inputs, out, request, pace)


def _finished_before(out: Path) -> bool:
    """Whether an earlier try did everything and was killed before its result was published; rank 0 looks for all."""
    import torch
    from torch import distributed

    finished = torch.tensor((out / "summary.json").exists(), dtype=torch.int, device=torch.cuda.current_device())
    distributed.broadcast(finished, src=0)
    if finished and distributed.get_rank() == 0:
        shutil.rmtree(out / "resume", ignore_errors=True)
    distributed.barrier()
    return bool(finished)


def _train(
    config: TrainConfig, model: Transformer, inputs: Mapping[str, Path], out: Path, request: StopRequest, pace: Pace
) -> None:
    from torch import distributed

    from msm_hpc.training.checkpoints.resume import load_resume_point, save_weights
    from msm_hpc.training.integrity import check_data, content_digest
    from msm_hpc.training.megatron.optimizer import gather_weights

    folders = [inputs["plan"], *(path for key, path in sorted(inputs.items()) if key.startswith(SHARDS))]
    check_data(folders)
    content = content_digest(folders, config.heldout)
    data, held_out = _hold_out(open_data(config, model, inputs), config, inputs)
    steps = data.order.steps
    trainable = build(config, model, inputs, steps)
    this = Run(
        config, trainable, data, out, request, pace, held_out, lambda step: f"{content}-{data.order.digest(step)}"
    )
    done = load_resume_point(trainable, out / "resume", this.consumed)
    trainable.schedule.step(done)
    first = distributed.get_rank() == 0
    records = Records(config, data.order, out, done) if first else None
    if first:
        announce(config, model, data.order, done)
    _steps(this, range(done, steps), records)
    gather_weights(trainable)
    save_weights(trainable.chunks, out / "checkpoint", config.lora)
    if records:
        records.close()
        write_json(out / "summary.json", asdict(summarise(config, model, data.order, records.steps)))
        shutil.rmtree(out / "resume", ignore_errors=True)
    distributed.barrier()


def open_data(config: TrainConfig, model: Transformer, inputs: Mapping[str, Path]) -> Data:
    """The packed rows, checked to be for this model.

    Raises:
        UserError: another sequence length, another tokenizer or more tokens than the model has, a shard is missing or
            not the one that was packed, or the rows of all epochs do not fill one global batch.
    """
    from msm_hpc.training.loop import Data

    plan = Plan(inputs["plan"])
    if plan.sequence_length != config.sequence_length:
        raise UserError(
            f"{inputs['plan']}: packed for sequence_length {plan.sequence_length}, training has "
            f"{config.sequence_length}; pack again or change sequence_length"
        )
    _check_tokenizer(inputs["plan"] / "manifest.json", inputs["model"] / "tokenizer.json", model.vocab_size)
    _check_fills_a_batch(config, len(plan))
    try:
        shards = plan.open_shards(_shard_folders(inputs))
    except BadInput as error:
        raise UserError(str(error)) from error
    order = SampleOrder(len(plan), config.epochs, config.global_batch_size, config.seed)
    return Data(plan, shards, order, model, row_shape(plan, config.layout, precision.tokens_of_rank(config.precision)))


def _hold_out(data: Data, config: TrainConfig, inputs: Mapping[str, Path]) -> tuple[Data, HeldOutLoss | None]:
    """What of ``data`` is to be trained on, and what measures the loss on the rest."""
    from msm_hpc.training.heldout import HeldOutLoss, hold_out

    if config.heldout is None:
        return data, None
    train, rest = hold_out(data, config.heldout)
    _check_fills_a_batch(config, len(train.plan))
    return train, HeldOutLoss(rest, config, _shard_folders(inputs))


def _shard_folders(inputs: Mapping[str, Path]) -> dict[str, Path]:
    return {key.removeprefix(SHARDS): path for key, path in inputs.items() if key.startswith(SHARDS)}


def _check_fills_a_batch(config: TrainConfig, rows: int) -> None:
    samples = rows * config.epochs
    if samples >= config.global_batch_size:
        return
    at_once = config.micro_batch_size * config.layout.data_parallel
    largest = samples // at_once * at_once
    fix = f"to {largest}" if largest else f"and micro_batch_size x data_parallel ({at_once}) to {samples} or less"
    raise UserError(
        f"global_batch_size {config.global_batch_size} is more than the {samples} rows that there are to train on "
        f"({rows} packed rows x {config.epochs} epochs), so rows would be repeated within an optimizer step; lower "
        f"global_batch_size {fix}, or give more data or epochs"
    )


def _check_tokenizer(plan: Path, tokenizer: Path, vocab_size: int) -> None:
    used = read_json(plan)["tokenizer"]
    if used["vocab_size"] > vocab_size:
        raise UserError(
            f"{plan}: tokenizer.vocab_size: tokenised with a vocabulary of {used['vocab_size']}, but the model has "
            f"vocab_size {vocab_size}; tokenise with the model's own tokenizer"
        )
    own = hashlib.sha256(tokenizer.read_bytes()).hexdigest()
    if used["tokenizer_sha256"] != own:
        raise UserError(
            f"{plan}: tokenizer.tokenizer_sha256: tokenised with another tokenizer ({used['tokenizer_sha256'][:12]}) "
            f"than {tokenizer} ({own[:12]}); tokenise with the model's own tokenizer"
        )


def build(config: TrainConfig, model: Transformer, inputs: Mapping[str, Path], steps: int) -> Trainable:
    """This rank's part of the model, with weights from ``inputs["checkpoint"]`` or drawn from ``config.seed``."""
    from msm_hpc.training.checkpoints.start import set_weights
    from msm_hpc.training.megatron.model import build_model, transformer_config
    from msm_hpc.training.megatron.optimizer import make_trainable

    chunks = build_model(model, transformer_config(model, config.layout, config.precision))
    set_weights(chunks, config, model, inputs.get("checkpoint"))
    return make_trainable(chunks, config, steps)


def _steps(run: Run, todo: range, records: Records | None) -> None:
    """Do the steps ``todo``; ``records`` is None on all ranks but the first."""
    from msm_hpc.training.checkpoints.resume import ResumePoints
    from msm_hpc.training.loop import train_step

    config = run.config
    history = _losses_before(records)
    points = ResumePoints(run.trainable, run.out / "resume", run.consumed)
    if todo.start == 0:
        _measure(run, 0, records)
    for step in todo:
        with run.pace.step():
            measured = train_step(run.trainable, run.data, config, step, history)
            signal, memory, busy = largest_of_all_ranks(run.request.received, peak_memory(), points.busy)
        history += [] if measured.skipped else [measured.loss]
        done = step + 1
        if records:
            records.add(replace(measured, peak_memory=memory))
        if not busy:
            points.finish()
        if config.heldout and (done % config.heldout.every == 0 or done == todo.stop):
            _measure(run, done, records)
        if done < todo.stop and (signal or done % config.save_every == 0):
            if records:
                records.sync()
            points.begin(done)
            if signal:
                points.finish()
                raise stopped(signal, done, todo.stop, todo.start)
    points.finish()


def _measure(run: Run, done: int, records: Records | None) -> None:
    """The loss on what is held out, if anything is."""
    if run.held_out is None:
        return
    losses = run.held_out.measure(run.trainable, done)
    if records:
        records.add_held_out(losses)


def _losses_before(records: Records | None) -> list[float]:
    """The losses that spikes are measured by, on every rank."""
    from torch import distributed

    losses = [[each.loss for each in records.steps if not each.skipped] if records else []]
    distributed.broadcast_object_list(losses, src=0)
    return losses[0]
