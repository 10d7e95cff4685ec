"""What happens beside training after each step, in this order.

=========================  ============  ======================================================
callback                   ranks         after a step
=========================  ============  ======================================================
:class:`Record`            rank 0        adds its metrics to files, curves and the log
:class:`CompleteSave`      all           gives a resume checkpoint its name, once it is written
:class:`MeasureHeldOut`    all           measures the held-out loss, where it is due
:class:`Save`              all           begins a resume checkpoint, where one is due
:class:`StopOnSignal`      all           ends the run, where a signal asked for it
=========================  ============  ======================================================
"""

from __future__ import annotations

from dataclasses import dataclass

from msm_hpc.training.checkpoints.resume import ResumeSaver
from msm_hpc.training.heldout import HeldOutLoss
from msm_hpc.training.megatron.optimizer import Trainable
from msm_hpc.training.record.records import Records, timing
from msm_hpc.training.trainer import StepEnd
from msm_hpc.training.watch.signals import stopped


@dataclass(frozen=True)
class Record:
    """Keeps the metrics of each step."""

    records: Records

    def after_step(self, end: StepEnd) -> None:
        """Keep those of this step."""
        self.records.add(end.metrics)


@dataclass(frozen=True)
class CompleteSave:
    """Completes a resume checkpoint as soon as every rank has written its part, without waiting for any."""

    saver: ResumeSaver
    records: Records | None

    def after_step(self, end: StepEnd) -> None:
        """Complete it, if all have."""
        if not end.saving:
            with timing(self.records, "saving"):
                self.saver.finish()


@dataclass(frozen=True)
class MeasureHeldOut:
    """Measures the held-out loss after ``heldout.every`` so many steps and at the end; rank 0 has ``records``."""

    loss: HeldOutLoss
    trainable: Trainable
    records: Records | None

    def after_step(self, end: StepEnd) -> None:
        """Measure, if it is due."""
        if end.due(self.loss.every) or end.last:
            self.measure(end.done)

    def measure(self, done: int) -> None:
        """Measure after ``done`` steps."""
        with timing(self.records, "held out"):
            losses = self.loss.measure(self.trainable, done)
        if self.records:
            self.records.add_held_out(losses)


@dataclass(frozen=True)
class Save:
    """Begins a resume checkpoint after ``every`` so many steps and before a stop; rank 0 has ``records``."""

    saver: ResumeSaver
    every: int
    records: Records | None

    def after_step(self, end: StepEnd) -> None:
        """Begin one, if it is due; a run's last step needs none."""
        if end.last or not (end.signal or end.due(self.every)):
            return
        with timing(self.records, "saving"):
            if self.records:
                self.records.sync()
            self.saver.begin(end.done)


@dataclass(frozen=True)
class StopOnSignal:
    """Ends the run, at one step on all ranks, when a signal asked for it; it began after ``began`` of ``steps``."""

    saver: ResumeSaver
    records: Records | None
    began: int
    steps: int

    def after_step(self, end: StepEnd) -> None:
        """Stop once the checkpoint of this step is complete.

        Raises:
            StoppedBySignalError: it is.
        """
        if end.signal and not end.last:
            with timing(self.records, "saving"):
                self.saver.finish()
            if self.records:
                self.records.sync()
            raise stopped(end.signal, end.done, self.steps, self.began)
