"""The training loop: steps, what all ranks agree on after each, and callbacks for all else.

Every rank runs the loop. After each step the ranks agree on a :class:`StepEnd`, and then each calls its callbacks, in
one order; so a callback may call a collective if every rank has it (:mod:`msm_hpc.training.callbacks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from msm_hpc.base.stopping import StopRequest
from msm_hpc.config.training import TrainConfig
from msm_hpc.training.checkpoints.resume import ResumeSaver
from msm_hpc.training.data.reader import BatchReader
from msm_hpc.training.megatron.device import peak_memory
from msm_hpc.training.megatron.optimizer import Trainable
from msm_hpc.training.record.metrics import StepMetrics
from msm_hpc.training.step import train_step
from msm_hpc.training.watch import signals
from msm_hpc.training.watch.hangs import StepTimer


@dataclass(frozen=True)
class StepEnd:
    """The end of a step, the same on every rank.

    ``metrics`` are the step's; ``last`` says whether it was the run's last. ``signal`` is the largest stopping signal
    that any rank has noticed, 0 if none; ``saving`` says whether any rank is still writing a resume checkpoint.
    """

    metrics: StepMetrics
    last: bool
    signal: int
    saving: bool

    @property
    def done(self) -> int:
        """Steps that are done."""
        return self.metrics.step

    def due(self, every: int) -> bool:
        """Whether something that happens after ``every`` so many steps happens now."""
        return self.done % every == 0


class Callback(Protocol):
    """Something that happens beside training."""

    def after_step(self, end: StepEnd) -> None:
        """Called at the end of each step."""
        ...


@dataclass(frozen=True)
class Trainer:
    """Trains ``trainable`` on ``data``.

    Attributes:
        trainable: with the state after the steps that are done.
        data: what is trained on.
        config: of the run.
        saver: writes resume checkpoints in the background.
        request: whether a signal asked this rank to stop.
        timer: times steps, for the watchdog.
    """

    trainable: Trainable
    data: BatchReader
    config: TrainConfig
    saver: ResumeSaver
    request: StopRequest
    timer: StepTimer

    def train(self, done: int, losses: Sequence[float], callbacks: Sequence[Callback]) -> None:
        """Do the steps after the first ``done``, whose ``losses`` spikes are measured by."""
        history = list(losses)
        for step in range(done, self.data.order.steps):
            with self.timer.step():
                metrics = train_step(self.trainable, self.data, self.config, step, history)
                end = self._agree(metrics)
            if not metrics.skipped:
                history.append(metrics.loss)
            for callback in callbacks:
                callback.after_step(end)
        self.saver.finish()

    def _agree(self, metrics: StepMetrics) -> StepEnd:
        """Make known to every rank what any rank has noticed."""
        signal, memory, saving = signals.largest_of_all_ranks(
            self.request.received, peak_memory(), self.saver.is_writing
        )
        last = metrics.step == self.data.order.steps
        return StepEnd(replace(metrics, peak_memory=memory), last, signal, bool(saving))
