"""What Hydra composes: a campaign, the sections of its config, and the cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from msm_hpc.base.errors import UserError
from msm_hpc.config.schema import Name, Rate, Strict
from msm_hpc.config.stages import Arm, EvalConfig, ExportConfig, ModelConfig
from msm_hpc.config.training import Lora, Precision, TrainConfig

Gpu = Literal["a100", "l40s", "h100", "h200", "gh200", "b200", "gb200"]


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
    memory_gb: Rate = 4.0
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
