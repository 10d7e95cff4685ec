"""What a training run is given: the recipe, the layout of its ranks, an adapter, held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveInt

from msm_hpc.base.errors import UserError
from msm_hpc.config.schema import Fraction, Rate, Strict, placement

Precision = Literal["fp32", "bf16", "fp8_delayed", "fp8_tensorwise", "fp8_blockwise", "mxfp8", "nvfp4"]
InitialSpread = Literal["initializer_range", "fan_in"]
Recompute = Literal["none", "selective", "full"]


@dataclass(frozen=True, kw_only=True)
class Layout(Strict):
    """How the ranks of one training job are arranged; ``world_size`` is the product of the four.

    ``virtual_pipeline`` is how many chunks of layers each pipeline stage holds: with 8 layers, 2 stages and 2 chunks,
    the first stage has layers 0-1 and 4-5 (the interleaved schedule of arXiv 2104.04473, section 2.2). ``recompute``
    says which activations are not kept for the backward pass, but computed again there: those of the MLP
    (``selective``), or all of a layer but its input (``full``). ``auto``, in an override
    ``stages.midtrain.layout=auto``, has the planner choose (``planner/choose.py``) before there are any steps.
    """

    tensor_parallel: PositiveInt = 1
    pipeline_parallel: PositiveInt = 1
    virtual_pipeline: PositiveInt = 1
    context_parallel: PositiveInt = 1
    data_parallel: PositiveInt = 1
    sequence_parallel: bool = False
    recompute: Recompute = "none"
    nodes: PositiveInt = 1
    auto: bool = False

    def __post_init__(self) -> None:
        if self.auto and replace(self, auto=False) != Layout():
            raise UserError("layout=auto chooses every part of the layout: leave the other fields of layout out")
        if self.auto:
            return
        if self.sequence_parallel and self.tensor_parallel == 1:
            raise UserError("layout.sequence_parallel needs layout.tensor_parallel of at least 2")
        if self.world_size % self.nodes:
            raise UserError(
                f"{self} cannot be spread evenly over layout.nodes={self.nodes}; choose a divisor of {self.world_size}"
            )
        if self.virtual_pipeline > 1 and self.pipeline_parallel == 1:
            raise UserError(
                f"layout.virtual_pipeline={self.virtual_pipeline} interleaves the chunks of pipeline stages, and "
                "layout.pipeline_parallel is 1: set it to 2 or more, or virtual_pipeline to 1"
            )

    def __str__(self) -> str:
        """How many ranks, and their arrangement: ``4 ranks (TP2 PP2)``; ``auto`` before it is chosen."""
        if self.auto:
            return "auto"
        sizes = {
            "TP": self.tensor_parallel,
            "PP": self.pipeline_parallel,
            "VPP": self.virtual_pipeline,
            "CP": self.context_parallel,
            "DP": self.data_parallel,
        }
        parts = [f"{word}{size}" for word, size in sizes.items() if size > 1]
        parts += [f"{self.recompute} recomputation"] if self.recompute != "none" else []
        ranks = f"{self.world_size} ranks" if self.world_size > 1 else "1 rank"
        return f"{ranks} ({' '.join(parts)})" if parts else ranks

    @property
    def world_size(self) -> int:
        """Ranks of the job."""
        assert not self.auto, "layout=auto is chosen before anything asks for ranks"
        return self.tensor_parallel * self.pipeline_parallel * self.context_parallel * self.data_parallel


ONE_RANK = Layout()


def _layout(value: object) -> object:
    """The word ``auto`` as a layout that is still to be chosen; it is the only word."""
    if isinstance(value, str) and value != "auto":
        raise UserError(f"{value!r} is no layout: give auto, or its parts, such as {{tensor_parallel: 2}}")
    return Layout(auto=True) if value == "auto" else value


@dataclass(frozen=True, kw_only=True)
class Lora(Strict):
    """A low-rank adapter of all projections (:mod:`msm_hpc.model.adapter`); the paper's numbers."""

    rank: PositiveInt = 64
    alpha: Rate = 128.0


@dataclass(frozen=True, kw_only=True)
class HeldOut(Strict):
    """Rows that are not trained on: so many global ``batches`` of the plan, drawn by ``seed``.

    Their loss is measured before the first step, after ``every`` so many, and at the end: of all tokens, and for each
    value of each of ``fields``, names in the provenance of documents. What is measured changes no model, so a run that
    is done is not repeated for it.
    """

    batches: PositiveInt = 1
    seed: int = 0
    fields: tuple[str, ...] = placement(())
    every: PositiveInt = placement(50)

    def __post_init__(self) -> None:
        for name in self.fields:
            if self.fields.count(name) > 1:
                raise UserError(f"fields lists {name} twice: remove one")

    def count(self, global_batch_size: int, rows: int) -> int:
        """How many of a plan's ``rows`` are held out.

        Raises:
            UserError: nothing would be left to train on.
        """
        count = self.batches * global_batch_size
        if count >= rows:
            raise UserError(
                f"heldout.batches={self.batches} takes {count} rows (x global_batch_size {global_batch_size}) and "
                f"there are {rows}: nothing is left to train on; give more data, or lower one of them"
            )
        return count


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Strict):
    """One training run: pretraining, midtraining or alignment fine-tuning.

    Defaults are the paper's (arXiv 2605.02087, appendix B.4) where it gives one. Batch sizes count packed rows of
    ``sequence_length`` tokens. ``fp8_emulated`` has an FP8 ``precision`` emulated on the CPU; a campaign sets it where
    its cluster has no GPUs, so that emulated and real runs never share a result. A loss that is not finite or a spike
    (:mod:`msm_hpc.training.watch.spikes`) stops the run, unless ``skip_spikes`` leaves such updates out;
    ``stop_on_spike=False`` keeps the spikes and continues. With ``lora`` an adapter is trained and the rest is frozen:
    the adapter of the checkpoint that the run starts from, or else a new one. ``heldout`` has the loss measured on rows
    that are not trained on; ``initial_spread`` is that of weights which are drawn
    (:func:`msm_hpc.training.checkpoints.initial.initialise`); ``wandb`` is the Weights & Biases project that also
    receives the TensorBoard metrics.
    """

    sequence_length: Annotated[int, Field(ge=2)] = 8192
    global_batch_size: PositiveInt = 16
    epochs: PositiveInt = 1
    learning_rate: Rate = 1e-4
    min_learning_rate: float = 0.0
    warmup_fraction: Fraction = 0.05
    weight_decay: NonNegativeFloat = 0.01
    adam_beta1: Fraction = 0.9
    adam_beta2: Fraction = 0.95
    adam_eps: Rate = 1e-8
    clip_grad: NonNegativeFloat = 1.0
    precision: Precision = "bf16"
    fp8_emulated: bool = False
    skip_spikes: bool = False
    lora: Lora | None = None
    seed: int = 0
    initial_spread: InitialSpread = "initializer_range"
    heldout: HeldOut | None = None
    layout: Annotated[Layout, BeforeValidator(_layout)] = placement(ONE_RANK)
    micro_batch_size: PositiveInt = placement(1)
    save_every: PositiveInt = placement(200)
    log_every: PositiveInt = placement(10)
    stop_on_spike: bool = placement(True)
    wandb: Annotated[str, Field(min_length=1)] | None = placement(None)

    def __post_init__(self) -> None:
        if not 0 <= self.min_learning_rate <= self.learning_rate:
            raise UserError(
                f"min_learning_rate {self.min_learning_rate} is not between 0 and learning_rate {self.learning_rate}"
            )
        if self.fp8_emulated and self.precision in ("fp32", "bf16"):
            raise UserError(f"fp8_emulated is set, but precision is {self.precision}: there is nothing to emulate")
        if self.fp8_emulated and self.precision == "fp8_delayed" and self.layout.virtual_pipeline > 1:
            raise UserError(
                f"layout.virtual_pipeline={self.layout.virtual_pipeline} with fp8_delayed cannot be emulated on a CPU: "
                "Transformer Engine updates the scales of all chunks of a stage when one has run, the emulator only "
                "those of that chunk; set it to 1, or choose precision=fp8_tensorwise"
            )
        if self.fp8_emulated and self.precision == "fp8_delayed" and self.layout.recompute != "none":
            raise UserError(
                f"layout.recompute={self.layout.recompute} with fp8_delayed cannot be emulated on a CPU: what is "
                "computed again would be rounded by newer scales, which Transformer Engine prevents; set it to none, "
                "or choose precision=fp8_tensorwise"
            )
        if self.heldout is not None and self.precision == "fp8_delayed":
            raise UserError(
                "heldout is set, and precision is fp8_delayed: its scales follow every batch that is seen, so that to "
                "measure would change the training; set heldout=null or choose another precision"
            )
        rows = self.micro_batch_size * self.layout.data_parallel
        if self.global_batch_size % rows:
            raise UserError(
                f"global_batch_size {self.global_batch_size} is not a multiple of micro_batch_size "
                f"{self.micro_batch_size} x data_parallel {self.layout.data_parallel}"
            )
        micro_batches, stages = self.global_batch_size // rows, self.layout.pipeline_parallel
        if self.layout.virtual_pipeline > 1 and micro_batches % stages:
            raise UserError(
                f"an optimizer step has {micro_batches} micro-batches (global_batch_size {self.global_batch_size} / "
                f"micro_batch_size {self.micro_batch_size} / data_parallel {self.layout.data_parallel}), no multiple "
                f"of pipeline_parallel {stages}, as virtual_pipeline needs; change one of them"
            )


@dataclass(frozen=True, kw_only=True)
class TrainInputs:
    """The folders that a training reads.

    Attributes:
        model: a model step's output.
        plan: a pack step's output.
        shards: by source, a tokenise step's output: a shard, or numbered folders of shards.
        checkpoint: a train or model step's output, from which training starts; without it weights, or with ``lora``
            those of the adapter, are drawn from the config's seed.
        base: with ``lora``, a train or model step's output: the weights that are frozen.
    """

    model: Path
    plan: Path
    shards: Mapping[str, Path]
    checkpoint: Path | None = None
    base: Path | None = None
