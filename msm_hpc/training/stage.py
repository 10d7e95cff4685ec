"""The training stage: ``run`` is called in the process of every rank.

A run that was killed is called again with the same ``out`` and resumes from the newest resume checkpoint; its result is
that of a run that was never killed. ``out/checkpoint`` and ``out/summary.json`` appear at the end, and then
``out/resume`` is deleted.

Modules that import Megatron are imported inside functions: while :func:`.megatron.cpu.redirected` is open, which spares
a CPU the compiler, and not at all by those who only want a name of this file.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json
from msm_hpc.base.stopping import StopRequest, noticed
from msm_hpc.config.training import TrainConfig, TrainInputs
from msm_hpc.model.architecture import Transformer, read_architecture
from msm_hpc.model.layout import check_layout
from msm_hpc.training.megatron import cpu
from msm_hpc.training.megatron.device import before_cuda, check_here
from msm_hpc.training.megatron.groups import process_groups
from msm_hpc.training.record.metrics import recorded_steps
from msm_hpc.training.record.records import Records, timing
from msm_hpc.training.record.summary import announce, summarise
from msm_hpc.training.record.tensorboard import check_wandb
from msm_hpc.training.watch.hangs import StepTimer
from msm_hpc.training.watch.watchdog import watched
from tokenization.shards import shards_by_key

if TYPE_CHECKING:
    from msm_hpc.training.data.reader import BatchReader
    from msm_hpc.training.heldout import HeldOutLoss
    from msm_hpc.training.megatron.optimizer import Trainable

log = logging.getLogger(__name__)


def run(config: TrainConfig, inputs: TrainInputs, out: Path) -> None:
    """Train, as one rank of ``config.layout.world_size``.

    Args:
        config: of the run.
        inputs: the folders that it reads.
        out: an existing folder, kept from an earlier attempt at the same run.

    Raises:
        UserError: the layout does not fit the model or the number of ranks, the data is not for this model, or the
            loss is no longer finite.
        StoppedBySignalError: SIGINT, SIGUSR2 or SIGTERM came, and a resume checkpoint is saved, from which the next
            call resumes.
        RankLostError: another rank failed, died or hangs.
    """
    logging.getLogger("megatron").setLevel(logging.WARNING)
    before_cuda()
    with cpu.redirected():
        model = read_architecture(inputs.model)
        check_layout(config.layout, model, config.sequence_length)
        check_here(config, model)
        check_wandb(config.wandb)
        with noticed() as request, process_groups(config.layout, config.seed), watched(request) as timer:
            if not _finished_before(out):
                _train(config, model, inputs, out, request, timer)


def _finished_before(out: Path) -> bool:
    """Whether an earlier attempt finished, with a checkpoint that is whole, and was killed before it was published."""
    from torch import distributed

    from msm_hpc.training.checkpoints.checks import check_hashes
    from msm_hpc.training.watch.rank0 import on_rank0

    if not on_rank0((out / "summary.json").exists):
        return False
    try:
        check_hashes(out / "checkpoint")
    except UserError as error:
        if distributed.get_rank() == 0:
            log.warning("the result of an earlier attempt cannot be used, so it is trained again: %s", error)
        on_rank0((out / "summary.json").unlink)
        return False
    on_rank0(lambda: shutil.rmtree(out / "resume", ignore_errors=True))
    return True


def _train(
    config: TrainConfig, model: Transformer, inputs: TrainInputs, out: Path, request: StopRequest, timer: StepTimer
) -> None:
    from torch import distributed

    from msm_hpc.training.callbacks import CompleteSave, MeasureHeldOut, Record, Save, StopOnSignal
    from msm_hpc.training.checkpoints.resume import ResumeSaver, load_resume_checkpoint
    from msm_hpc.training.trainer import Trainer
    from msm_hpc.training.watch.rank0 import on_rank0
    from msm_hpc.training.watch.signals import stopped

    began = time.monotonic()
    data, held_out, consumed = _open(config, model, inputs)
    steps = data.order.steps
    trainable = build(config, model, inputs, steps)
    done = load_resume_checkpoint(trainable, out / "resume", consumed, on_rank0(lambda: recorded_steps(out)))
    trainable.schedule.step(done)
    if asked := on_rank0(lambda: request.received):  # while all this was loading
        raise stopped(asked, done, steps, began=done)
    records = None
    if distributed.get_rank() == 0:
        records = Records(config, data.order, out, done)
        records.seconds["load"] = time.monotonic() - began
        announce(config, model, data.order, done)
    losses = _losses_before(records)
    saver = ResumeSaver(trainable, out / "resume", consumed)
    record = [Record(records)] if records else []
    measure = [MeasureHeldOut(held_out, trainable, records)] if held_out else []
    save, stop = Save(saver, config.save_every, records), StopOnSignal(saver, records, done, steps)
    if measure and done == 0:
        measure[0].measure(0)
    trainer = Trainer(trainable, data, config, saver, request, timer)
    trainer.train(done, losses, [*record, CompleteSave(saver, records), *measure, save, stop])
    _write_result(config, model, data, trainable, out, records)


def _open(
    config: TrainConfig, model: Transformer, inputs: TrainInputs
) -> tuple[BatchReader, HeldOutLoss | None, Callable[[int], str]]:
    """The rows to train on, the held-out loss if any, and the digest of the samples of the first so many steps."""
    from msm_hpc.training.data.integrity import check_data, content_digest
    from msm_hpc.training.data.reader import check_fills_a_batch, open_data
    from msm_hpc.training.heldout import HeldOutLoss, hold_out

    shards = shards_by_key(inputs.shards)
    folders = [inputs.plan, *(folder for _, folder in sorted(shards.items()))]
    check_data(folders)
    content = content_digest(folders, config.heldout)
    data, held_out = open_data(config, model, inputs), None
    if config.heldout is not None:
        data, rest = hold_out(data, config.heldout)
        check_fills_a_batch(config, len(data.plan))
        held_out = HeldOutLoss(rest, config, shards)
    return data, held_out, lambda step: f"{content}-{data.order.digest(step)}"


def build(config: TrainConfig, model: Transformer, inputs: TrainInputs, steps: int) -> Trainable:
    """This rank's part of the model, with weights from ``inputs`` or drawn from ``config.seed``."""
    from msm_hpc.training.checkpoints.start import set_weights
    from msm_hpc.training.megatron.model import build_model, transformer_config
    from msm_hpc.training.megatron.optimizer import make_trainable

    chunks = build_model(model, transformer_config(model, config.layout, config.precision))
    adapter = set_weights(chunks, config, model, inputs)
    return make_trainable(chunks, config, steps, adapter)


def _losses_before(records: Records | None) -> list[float]:
    """The losses of the steps that are done, which spikes are measured by, on every rank."""
    from torch import distributed

    losses = [[each.loss for each in records.steps if not each.skipped] if records else []]
    distributed.broadcast_object_list(losses, src=0)
    return losses[0]


def _write_result(
    config: TrainConfig, model: Transformer, data: BatchReader, trainable: Trainable, out: Path, records: Records | None
) -> None:
    """Write the checkpoint and then the summary, whose presence says that the run is finished."""
    from torch import distributed

    from msm_hpc.training.checkpoints.weights import save_weights
    from msm_hpc.training.megatron.optimizer import gather_weights

    with timing(records, "saving"):
        gather_weights(trainable)
        save_weights(trainable.chunks, out / "checkpoint", trainable.adapter)
    if records:
        records.close()
        summary = summarise(config, model, data.order, records.steps, dict(records.seconds))
        write_json(out / "summary.json", asdict(summary))
        shutil.rmtree(out / "resume", ignore_errors=True)
    distributed.barrier()
