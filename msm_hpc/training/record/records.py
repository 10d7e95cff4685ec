"""What rank 0 records of a run while it runs: lines in files, progress, curves and the log."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.training import TrainConfig
from msm_hpc.training.data.order import SampleOrder
from msm_hpc.training.record.metrics import (
    HELD_OUT,
    METRICS,
    FieldLoss,
    HeldOutFile,
    MetricsFile,
    StepMetrics,
)
from msm_hpc.training.record.summary import log_held_out, log_step
from msm_hpc.training.record.tensorboard import Curves


class Records:
    """Records a run into ``out``, after the ``done`` steps that it resumes from."""

    def __init__(self, config: TrainConfig, order: SampleOrder, out: Path, done: int) -> None:
        self._config, self._order = config, order
        self._metrics = MetricsFile(out / METRICS, done)
        self._held_out = HeldOutFile(out / HELD_OUT, done)
        self._progress = ProgressFile(out, order.steps, "optimizer steps", began=done)
        self._curves = Curves(out, done, config)

    @property
    def steps(self) -> list[StepMetrics]:
        """All steps of the run so far."""
        return self._metrics.steps

    def add(self, step: StepMetrics) -> None:
        """Record one step, and log the last few where it is time."""
        self._metrics.append(step)
        self._progress.seconds["training"] += step.seconds
        self._progress.update(step.step)
        if step.step % self._config.log_every == 0 or step.step == self._order.steps:
            recent = self.steps[-self._config.log_every :]
            log_step(recent, self._order, self._config)
            self._curves.add(recent, self._config.layout.world_size)

    def add_held_out(self, losses: list[FieldLoss]) -> None:
        """Record and log the held-out losses after one step."""
        self._held_out.append(losses)
        log_held_out(losses)
        self._curves.add_held_out(losses)

    @property
    def seconds(self) -> dict[str, float]:
        """What the time of this attempt went to so far: ``load``, ``training``, ``held out`` and ``saving``."""
        return self._progress.seconds

    def timing(self, part: str) -> AbstractContextManager[None]:
        """Add the time that a block takes to a part of :attr:`seconds`."""
        return self._progress.timing(part)

    def sync(self) -> None:
        """Make sure that all steps are on disk, before a resume checkpoint says that they are done."""
        self._metrics.sync()
        self._progress.flush()

    def close(self) -> None:
        """Finish writing."""
        self._progress.flush()
        self._metrics.close()
        self._curves.close()


def timing(records: Records | None, part: str) -> AbstractContextManager[None]:
    """:meth:`Records.timing` on rank 0; the other ranks have no records."""
    return records.timing(part) if records else nullcontext()
