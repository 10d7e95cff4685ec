"""The run as TensorBoard shows it: ``out/tensorboard``, read with ``tensorboard --logdir`` over the folder of any run.

``metrics.jsonl`` stays the source for everything else; these files repeat what the log says.
"""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter

from msm_hpc.training.metrics import StepMetrics


class Board:
    """Writes curves over optimizer steps; kept by rank 0 alone."""

    def __init__(self, folder: Path, done: int) -> None:
        """Go on after ``done`` steps: TensorBoard leaves out what an earlier try wrote of later ones."""
        self._writer = SummaryWriter(str(folder), purge_step=done + 1)

    def add(self, recent: list[StepMetrics], world_size: int) -> None:
        """Add the last of ``recent``, with speeds over all of them."""
        now = recent[-1]
        seconds = sum(each.seconds for each in recent)
        curves = {
            "loss": now.loss,
            "grad_norm": now.grad_norm,
            "learning_rate": now.learning_rate,
            "tokens_per_second_per_rank": sum(each.tokens for each in recent) / seconds / world_size,
            "TFLOP_per_second_per_rank": sum(each.flops for each in recent) / seconds / world_size / 1e12,
            "peak_memory_GiB": now.peak_memory / 2**30,
            "rows": now.rows,
        }
        for name, value in curves.items():
            self._writer.add_scalar(name, value, now.step)

    def close(self) -> None:
        """Finish writing."""
        self._writer.close()
