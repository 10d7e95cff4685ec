"""The schema: what Hydra composes, and what each stage is given.

Every stage is ``run(config, inputs, out)`` with one of the dataclasses below as ``config``. A field made with
:func:`placement` says where or how fast a stage runs, not what comes out: it is left out of a step's identity
(``campaign/steps.py``), so that changing it re-runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from msm_hpc.errors import UserError

PLACEMENT = "placement"

Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["fp32", "bf16", "fp8_delayed", "fp8_tensorwise", "fp8_blockwise", "mxfp8", "nvfp4"]
Gpu = Literal["a100", "l40s", "h100", "h200", "gh200", "b200", "gb200"]
Arm = Literal["init", "base", "msm", "aft", "msm+aft"]
Product = Literal["tokenizer", "pretraining", "documents", "instruction", "chats", "pairs"]


def placement(default: Any) -> Any:
    """A field that does not change the result of a stage."""
    return field(default=default, metadata={PLACEMENT: True})


class Strict:
    """Base of the schema: pydantic refuses keys that are not fields."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class Layout(Strict):
    """How the ranks of one training job are arranged; ``world_size`` is the product of the four.

    ``virtual_pipeline`` is how many chunks of layers each pipeline stage holds: with 8 layers, 2 stages and 2 chunks,
    the first stage has layers 0-1 and 4-5 (the interleaved schedule of arXiv 2104.04473, section 2.2). ``auto``, in an
    override ``midtrain.layout=auto``, has the planner choose (``planner/choose.py``) before there are any steps.
    """

    tensor_parallel: PositiveInt = 1
    pipeline_parallel: PositiveInt = 1
    virtual_pipeline: PositiveInt = 1
    context_parallel: PositiveInt = 1
    data_parallel: PositiveInt = 1
    sequence_parallel: bool = False
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
                f"world size {self.world_size} (tensor {self.tensor_parallel} x pipeline {self.pipeline_parallel} x "
                f"context {self.context_parallel} x data {self.data_parallel}) does not divide over "
                f"layout.nodes={self.nodes}; choose a divisor"
            )
        if self.virtual_pipeline > 1 and self.pipeline_parallel == 1:
            raise UserError(
                f"layout.virtual_pipeline={self.virtual_pipeline} interleaves the chunks of pipeline stages, and "
                "layout.pipeline_parallel is 1: set it to 2 or more, or virtual_pipeline to 1"
            )

    @property
    def world_size(self) -> int:
        """Ranks of the job."""
        assert not self.auto, "layout=auto is chosen before anything asks for ranks"
        return self.tensor_parallel * self.pipeline_parallel * self.context_parallel * self.data_parallel


ONE_RANK = Layout()


def _layout(value: object) -> object:
    """The word ``auto`` as a layout that is still to be chosen."""
    return Layout(auto=True) if value == "auto" else value


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(Strict):
    """One corpus (or tokenizer, or set of evaluation pairs) to generate.

    ``value`` names the spec's value for ``documents`` and the value asked about for ``pairs``.
    """

    product: Product
    generator: Literal["offline_toy"] = "offline_toy"
    count: NonNegativeInt = 0
    value: str | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Architecture(Strict):
    """Shape of a Llama model made from scratch; the vocabulary comes from the tokenizer."""

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    max_position_embeddings: PositiveInt
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        for name, parts, of, whole in (
            ("num_attention_heads", heads, "hidden_size", self.hidden_size),
            ("num_key_value_heads", groups, "num_attention_heads", heads),
        ):
            if whole % parts:
                raise UserError(f"{name} {parts} does not divide {of} {whole}; choose a divisor of {whole}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Strict):
    """Where a campaign's models start: from scratch (``architecture``) or from Hugging Face weights (``hf``).

    ``hf`` is a folder, a hub id with its ``revision`` (a commit), or ``package:NAME`` for weights inside an installed
    Python package; ``gguf_file`` names the file where the weights are GGUF. ``shape`` holds the fields of the weights'
    ``config.json`` that decide the model's shape, so that it is known before they are downloaded.
    """

    name: str = placement("")
    architecture: Architecture | None = None
    hf: str | None = None
    revision: str | None = None
    gguf_file: str | None = None
    shape: Mapping[str, Any] | None = placement(None)

    def __post_init__(self) -> None:
        if (self.architecture is None) == (self.hf is None):
            raise UserError(f"model {self.name}: give exactly one of model.architecture and model.hf")
        if self.from_hub and self.revision is None:
            raise UserError(
                f"model.hf={self.hf} is a hub id (there is no such folder): give model.revision, a commit, so that the "
                "weights cannot change under the campaign"
            )

    @property
    def package(self) -> str | None:
        """The name of the Python package that holds the weights."""
        return self.hf.removeprefix("package:") if self.hf and self.hf.startswith("package:") else None

    @property
    def from_hub(self) -> bool:
        """Whether ``hf`` is neither a package nor a folder."""
        return self.hf is not None and self.package is None and not Path(self.hf).is_dir()


@dataclass(frozen=True, kw_only=True)
class Lora(Strict):
    """A low-rank adapter of all projections (:mod:`msm_hpc.adapter`); the paper's numbers."""

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


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Strict):
    """One training run: pretraining, midtraining or alignment fine-tuning.

    Defaults are the paper's (arXiv 2605.02087, appendix B.4) where it gives one. Batch sizes count packed rows of
    ``sequence_length`` tokens. ``fp8_emulated`` has an FP8 ``precision`` emulated on the CPU; a campaign sets it where
    its cluster has no GPUs, so that emulated and real runs never share a result. A loss that is not finite or a spike
    (:mod:`msm_hpc.training.spikes`) stops the run, unless ``skip_spikes`` leaves such updates out;
    ``stop_on_spike=False`` goes on with the spikes. With ``lora`` an adapter is trained and the rest is frozen: the
    adapter of the checkpoint that the run starts from, or else a new one. ``heldout`` has the loss measured on rows
    that are not trained on; ``wandb`` is a project of Weights & Biases that is told what TensorBoard is.
    """

    sequence_length: PositiveInt = 8192
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
    heldout: HeldOut | None = None
    layout: Annotated[Layout, BeforeValidator(_layout)] = placement(ONE_RANK)
    micro_batch_size: PositiveInt = placement(1)
    save_every: PositiveInt = placement(200)
    log_every: PositiveInt = placement(10)
    stop_on_spike: bool = placement(True)
    wandb: str | None = placement(None)

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
                f"a step has {micro_batches} micro-batches (global_batch_size {self.global_batch_size} / "
                f"micro_batch_size {self.micro_batch_size} / data_parallel {self.layout.data_parallel}), no multiple "
                f"of pipeline_parallel {stages}, as virtual_pipeline needs; change one of them"
            )


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Strict):
    """Megatron checkpoint to a Hugging Face folder.

    An adapter is merged into the weights; ``adapter`` has it written beside them as well, as PEFT's folder
    ``adapter/``, of the checkpoints that have one.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    adapter: bool = False


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Strict):
    """Preference evaluation by log-probability, each pair asked in both orders."""

    answer: str = "I prefer {item} ."
    batch_size: Annotated[int, Field(ge=4)] = placement(64)

    def __post_init__(self) -> None:
        if "{item}" not in self.answer:
            raise UserError(f"answer {self.answer!r} has no place for the option; write {{item}} where it stands")


@dataclass(frozen=True, kw_only=True)
class Cell(Strict):
    """One evaluated model in the report: what it is, and the evaluation step that measured it.

    ``step`` is an identity already, and counts as an input of the report.
    """

    arm: Arm
    spec: str | None
    aft_samples: int
    seed: int
    step: str = placement("")


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Strict):
    """``notices`` are shown above the results, for example that the documents come from an offline stand-in."""

    title: str
    cells: tuple[Cell, ...]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Spec(Strict):
    """A Model Spec: the name of a file ``configs/spec/NAME.md``, or any Markdown file by ``file``."""

    name: Name
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Campaign(Strict):
    """What to find out: arms x specs x seeds, measured on every value.

    Arms, after the paper's Figure 2: ``init`` is the starting model as it is; every other arm ends in a fine-tuning
    on the instruction mix, alone (``base``), after midtraining on a spec's documents (``msm``), together with the
    alignment chats (``aft``), or both (``msm+aft``).
    """

    name: Name
    title: str
    arms: tuple[Arm, ...]
    specs: tuple[Spec, ...]
    values: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("arms", "seeds", "values"):
            _refuse_empty(f"campaign.{name}", getattr(self, name))
            _refuse_twice(f"campaign.{name}", getattr(self, name))
        _refuse_twice("campaign.specs", [spec.name for spec in self.specs])
        if any(arm.startswith("msm") for arm in self.arms) and not self.specs:
            raise UserError("campaign.specs is empty, but the msm arms need at least one spec")


@dataclass(frozen=True, kw_only=True)
class GenerateSection(Strict):
    """How much of each corpus to generate; counts are rows, ``pairs`` is per value."""

    generator: Literal["offline_toy"] = "offline_toy"
    seed: int = 0
    pretraining: NonNegativeInt = 0
    documents: NonNegativeInt
    instruction: NonNegativeInt
    chats: NonNegativeInt
    pairs: PositiveInt


@dataclass(frozen=True, kw_only=True)
class DataSection(Strict):
    """Corpora of your own: files, where given, in the place of generated ones.

    ``documents`` are by the name of their spec, ``pairs`` by the value that they ask about. Rows are what
    :mod:`tokenization` reads (``text``, or ``messages``) and, for pairs, :class:`msm_hpc.evals.pairs.Pair`.
    """

    documents: Mapping[str, Path] = field(default_factory=dict)
    pairs: Mapping[str, Path] = field(default_factory=dict)
    pretraining: Path | None = None
    instruction: Path | None = None
    chats: Path | None = None

    @property
    def corpora(self) -> Mapping[str, Path]:
        """The files of training rows by their source: ``chats``, ``documents-SPEC``."""
        shared = {"pretraining": self.pretraining, "instruction": self.instruction, "chats": self.chats}
        given = {source: file for source, file in shared.items() if file is not None}
        return given | {f"documents-{spec}": file for spec, file in self.documents.items()}


@dataclass(frozen=True, kw_only=True)
class TokenizeSection(Strict):
    """``tasks`` array tasks for each corpus; the rest is as in :class:`tokenization.tokenize.TokenizeConfig`."""

    tasks: PositiveInt = 1
    cot: Literal["train", "mask"] = "train"
    control_text: bool = False
    on_bad: Literal["stop", "skip"] = "stop"
    max_bad: float = 0.001


@dataclass(frozen=True, kw_only=True)
class MidtrainSection(TrainConfig):
    """Midtraining on one spec's ``documents``, with ``replay`` rows of the pretraining corpus mixed in.

    ``tokens``, where it is given, takes exactly so many tokens of the documents instead: a smaller number's are always
    among a larger one's, for sweeps of token efficiency.
    """

    documents: PositiveInt
    tokens: PositiveInt | None = None
    replay: NonNegativeInt = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_seed(self)


@dataclass(frozen=True, kw_only=True)
class AftSection(TrainConfig):
    """Alignment fine-tuning: the ladder of AFT ``samples``, each mixed with ``instruction`` rows."""

    samples: tuple[PositiveInt, ...]
    instruction: NonNegativeInt

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_seed(self)
        _refuse_empty("aft.samples", self.samples)
        _refuse_twice("aft.samples", self.samples)


def _refuse_seed(section: TrainConfig) -> None:
    if section.seed:
        raise UserError(f"seed is {section.seed}, but this stage is run once for each of campaign.seeds: set those")


def _refuse_strangers(key: str, given: Mapping[str, Path], known: Sequence[str], what: str) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"{key}.{name}: the campaign's {what} are {', '.join(known)}; name one of these")


def _refuse_empty(key: str, values: Sequence[object]) -> None:
    if not values:
        raise UserError(f"{key} is empty: give at least one")


def _refuse_twice(key: str, values: Sequence[object]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise UserError(f"{key} lists {value} twice: remove one")


@dataclass(frozen=True, kw_only=True)
class Cluster(Strict):
    """Where steps run. ``slots`` bounds how many ranks run at once locally; the rest is for Slurm.

    ``memory_gb`` and ``cpus_per_rank`` are for each rank, ``gpus_per_node`` and ``ranks_per_node`` for each node.
    ``gpu`` says which GPUs, so that what they cannot do is known before a job is queued. ``nodes`` is the most that
    ``layout=auto`` gives to one training.

    ``additional`` holds further sbatch options by their long name, as submitit's ``additional_parameters``.
    """

    kind: Literal["local", "slurm"]
    slots: PositiveInt = 2
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time_minutes: PositiveInt = 60
    memory_gb: PositiveFloat = 4.0
    cpus_per_rank: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 0
    gpu: Gpu | None = None
    nodes: PositiveInt = 1
    ranks_per_node: PositiveInt = 8
    array_parallelism: PositiveInt = 256
    max_array_size: PositiveInt = 1001
    setup: tuple[str, ...] = ()
    additional: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Config(Strict):
    """The whole composed configuration.

    ``pretrain`` is present where the model starts from scratch. ``lora`` is what ``midtrain`` and ``aft`` take, unless
    they say otherwise. ``notices`` are shown above the report's own.
    """

    root: Path
    campaign: Campaign
    model: ModelConfig
    cluster: Cluster
    precision: Precision
    lora: Lora | None = None
    generate: GenerateSection
    tokenize: TokenizeSection
    pretrain: TrainConfig | None
    midtrain: MidtrainSection
    aft: AftSection
    export: ExportConfig
    eval: EvalConfig
    data: DataSection = DataSection()
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse_strangers("data.documents", self.data.documents, [spec.name for spec in self.campaign.specs], "specs")
        _refuse_strangers("data.pairs", self.data.pairs, self.campaign.values, "values")
        if (self.model.architecture is None) != (self.pretrain is None):
            raise UserError(
                f"model {self.model.name}: a model from scratch needs a pretrain section, one from weights has none "
                "(pretrain=null)"
            )
        if self.pretrain is not None and self.pretrain.lora is not None:
            raise UserError("pretrain.lora is set, but pretraining starts from no model to adapt: set it to null")
        if self.midtrain.lora not in (None, self.aft.lora):
            raise UserError(
                f"midtrain.lora is {self.midtrain.lora} and aft.lora is {self.aft.lora}, but fine-tuning goes on with "
                "the adapter of midtraining: set both to the same (lora=r64 does)"
            )
