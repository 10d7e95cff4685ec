"""The run as curves: TensorBoard always, Weights & Biases where it is asked for.

TensorBoard reads ``out/tensorboard`` (``tensorboard --logdir`` over the folder of any run). W&B is configured by its
own environment variables (``WANDB_MODE=offline``, ``WANDB_ENTITY``, ``WANDB_API_KEY``, ...) and is only imported if a
project is given. ``metrics.jsonl`` and ``heldout.jsonl`` are the source for everything else; curves repeat the log.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_text
from msm_hpc.config.training import TrainConfig

if TYPE_CHECKING:
    from msm_hpc.training.record.metrics import FieldLoss, StepMetrics


def check_wandb(project: str | None) -> None:
    """Refuse ``project`` where W&B is not installed.

    Raises:
        UserError: it is not.
    """
    if project is not None and find_spec("wandb") is None:
        raise UserError(
            f"wandb={project}: the package wandb is not installed; pip install 'msm-hpc[wandb]', or set wandb=null"
        )


class Curves:
    """Writes curves over optimizer steps; only rank 0 has one."""

    def __init__(self, out: Path, done: int, config: TrainConfig) -> None:
        """Continue after ``done`` steps; TensorBoard ignores what an earlier attempt wrote of later ones.

        Raises:
            UserError: W&B is to be used and refuses.
        """
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=done + 1)
        self._wandb = _start_wandb(config, out) if config.wandb is not None else None

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
        self._write(now.step, curves)

    def add_held_out(self, losses: list[FieldLoss]) -> None:
        """Add ``heldout/loss`` and, of each field's values, ``heldout/FIELD/VALUE``."""
        names = ["heldout/loss" if each.field is None else f"heldout/{each.field}/{each.value}" for each in losses]
        self._write(losses[0].step, {name: each.loss for name, each in zip(names, losses, strict=True)})

    def _write(self, step: int, curves: Mapping[str, float]) -> None:
        for name, value in curves.items():
            self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log({**curves, "step": step})

    def close(self) -> None:
        """Finish writing."""
        self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()


def _wandb_id(out: Path) -> str:
    """The id of the W&B run, in a file that goes from attempt to attempt with the others of ``out``."""
    file = out / "wandb_id.txt"
    if not file.exists():
        write_text(file, secrets.token_hex(8))
    return file.read_text(encoding="utf-8")


def _start_wandb(config: TrainConfig, out: Path) -> Any:
    """Start the W&B run, the same one however often this run is resumed."""
    import wandb

    try:
        run = wandb.init(
            project=config.wandb,
            id=_wandb_id(out),
            resume="allow",
            dir=out,
            config=asdict(config),
            settings=wandb.Settings(console="off"),
        )
    except wandb.Error as error:
        raise UserError(
            f"wandb={config.wandb}: W&B does not start ({error}); set WANDB_API_KEY, or WANDB_MODE=offline to write to "
            f"{out}/wandb alone, or wandb=null"
        ) from error
    run.define_metric("*", step_metric="step")  # W&B's own count would refuse steps that a resumed run repeats
    return run
