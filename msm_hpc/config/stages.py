"""What each stage but training is given: ``run(config, inputs, out)``, with one of these as ``config``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeInt, PositiveInt

from msm_hpc.base.errors import UserError
from msm_hpc.config.generation import Persona
from msm_hpc.config.schema import PLACEMENT, Strict, placement

Product = Literal[
    "tokenizer",
    "pretraining",
    "documents",
    "mentions",
    "instruction",
    "identity",
    "chats",
    "value_chats",
    "aligned_chats",
    "neutral",
    "content_chats",
    "plain_chats",
    "pairs",
    "other_pairs",
]

ONE_FOR_EACH: Mapping[Product, Literal["spec", "value"]] = {
    "documents": "spec",
    "mentions": "spec",
    "value_chats": "spec",
    "aligned_chats": "spec",
    "neutral": "spec",
    "content_chats": "spec",
    "plain_chats": "spec",
    "pairs": "value",
    "other_pairs": "value",
}
"""The products that a generator makes for each spec, or value; the others are made once."""


def made_as_asked(product: Product, for_each: Literal["spec", "value"] | None) -> bool:
    """Whether a product is made ``for_each``; chats may show the preferences of one spec, or of each its own."""
    return for_each == ONE_FOR_EACH.get(product) or (product == "chats" and for_each == "spec")


BY_MODEL_ALONE: frozenset[Product] = frozenset({"aligned_chats", "neutral", "content_chats", "plain_chats"})
"""The products that the toy world does not have."""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(Strict):
    """One corpus (or tokenizer, or set of evaluation pairs) to generate.

    ``value`` is the value that pairs ask about; other products have none. ``identity`` has a ``persona``, and the hash
    of the ``texts`` that it is made of.
    """

    product: Product
    generator: Literal["offline_toy", "templates"] = "offline_toy"
    count: NonNegativeInt = 0
    value: str | None = None
    seed: int = 0
    persona: Persona | None = None
    texts: str = ""


@dataclass(frozen=True, kw_only=True)
class GenerateInputs:
    """``spec``: the Model Spec's file, where the product is made for each."""

    spec: Path | None = None


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
    """Where a campaign's models start: one of ``architecture``, ``hub``, ``folder`` and ``package``.

    Attributes:
        name: what the campaign calls the model.
        architecture: the shape of a model made from scratch.
        hub: the id of Hugging Face weights on the hub, with their ``revision``, a commit.
        folder: a folder of Hugging Face weights.
        package: an installed Python package with weights inside.
        gguf_file: the name of the weights' file where they are GGUF.
        shape: the fields of the weights' ``config.json`` that decide the model's shape, so that it is known before they
            are downloaded.
    """

    name: str = placement("")
    architecture: Architecture | None = None
    hub: str | None = None
    revision: str | None = None
    folder: Path | None = placement(None)
    package: str | None = placement(None)
    gguf_file: str | None = None
    shape: Mapping[str, Any] | None = placement(None)

    def __post_init__(self) -> None:
        starts = ("architecture", "hub", "folder", "package")
        given = [f"model.{start}" for start in starts if getattr(self, start) is not None]
        if len(given) != 1:
            raise UserError(
                f"model {self.name}: give exactly one of model.architecture, model.hub, model.folder and "
                f"model.package, and set the others to null; given: {', '.join(given) or 'none'}"
            )
        if self.hub is None:
            return
        if self.hub.startswith(("/", "./", "../", "~")):
            raise UserError(f"model.hub={self.hub} is a path, not a hub id; give model.folder instead")
        if self.revision is None:
            raise UserError(
                f"model.hub={self.hub} has no revision: give model.revision, a commit, so that the weights cannot "
                "change under the campaign"
            )


@dataclass(frozen=True, kw_only=True)
class ModelInputs:
    """``tokenizer``: of a model made from scratch; ``weights``: the folder or GGUF file of a local model."""

    tokenizer: Path | None = None
    weights: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ExportConfig(Strict):
    """Megatron checkpoint to a Hugging Face folder.

    ``dtype`` is that of the exported weights, None for that of the checkpoint, which is what was trained in.
    An adapter is written alone, as PEFT's folder; ``merge`` has it merged into the weights of its base instead,
    which rounds their sum to ``dtype``, or to that of the base.
    """

    dtype: Literal["float32", "bfloat16"] | None = None
    merge: bool = False


@dataclass(frozen=True, kw_only=True)
class ExportInputs:
    """The folders that an export reads.

    Attributes:
        model: a model step's output.
        checkpoint: a train or model step's output: weights, or an adapter.
        base: of an adapter to be merged, the train or model step's output that it was trained on.
        base_model: of an adapter that is not, the export of that.
    """

    model: Path
    checkpoint: Path
    base: Path | None = None
    base_model: Path | None = None


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Strict):
    """Preference evaluation by log-probability, each pair asked in both orders.

    Of each value the first ``items`` pairs are asked; all where it is null.
    ``tokens_per_batch`` are computed at once, at most; each is compared with all others, so larger is not faster for
    long.
    """

    answer: str = "I prefer {item} ."
    items: PositiveInt | None = None
    tokens_per_batch: PositiveInt = placement(512)

    def __post_init__(self) -> None:
        if "{item}" not in self.answer:
            raise UserError(f"answer {self.answer!r} has no place for the option; write {{item}} where it stands")


@dataclass(frozen=True, kw_only=True)
class EvalInputs:
    """``model``: a Hugging Face folder; ``pairs``: by value, a file of pairs or a folder with ``pairs.jsonl``.

    ``adapter``: the export of an adapter, of which ``model`` is the base. ``spec``: what is in the system turn, of an
    arm that is asked with a spec.
    """

    model: Path
    pairs: Mapping[str, Path]
    adapter: Path | None = None
    spec: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Cell(Strict):
    """One evaluated model in the report: what it is, and the evaluation steps that measured it.

    Attributes:
        size: its rung of the ladder of fine-tuning data.
        step: the evaluation of its preferences by log-probability. It is an identity already, and counts as an input of
            the report; empty where there is none.
        evals: likewise, by the name of each eval of the campaign, the step whose output has its scores.
    """

    model: str
    arm: str
    spec: str | None
    size: int | None
    seed: int
    step: str = placement("")
    evals: Mapping[str, str] = field(default_factory=dict, metadata={PLACEMENT: True})


@dataclass(frozen=True, kw_only=True)
class PackedFor(Strict):
    """What a stage of a model is trained on: the pack step, which is an input of the report."""

    model: str
    stage: str
    step: str = placement("")


@dataclass(frozen=True, kw_only=True)
class Audited(Strict):
    """A written corpus, and its audit, which is an input of the report.

    ``page`` is where the audit's page lies, seen from the report's.
    """

    corpus: str
    step: str = placement("")
    page: str = placement("")


@dataclass(frozen=True, kw_only=True)
class Hours(Strict):
    """Hours that jobs held, such as GPU-hours: of each arm (or of what several arms share), by reason."""

    unit: str
    by_arm: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class ModelSize(Strict):
    """What a chart over sizes has to know of a model; ``family`` is transformers' ``model_type``."""

    family: str
    parameters: PositiveInt


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Strict):
    """A report of ``cells``, in their order.

    Attributes:
        counted: what the sizes of cells count.
        contrasts: arms whose specs are compared with each other.
        savings: arms whose need of data is compared, each with the arm that it is compared with.
        compare: arms that are tested against others on the same items, each with those others.
        persistence: arms that end with a ladder of later training, each with the arm without it.
        models: the sizes of models, where there are several and these are known.
        notices: shown above the results, for example that the documents come from an offline stand-in.
        packed: what stages are trained on, one for each set of sources: the report says what of them is left out.
        audited: the corpora that a language model wrote.
        why_absent: by step id, why an evaluation or audit is not there, in a report of what there is so far.
        hours: what all of it took, when the report was written.
    """

    title: str
    cells: tuple[Cell, ...]
    counted: Literal["chats", "turns", "documents", "rows"] = "chats"
    contrasts: tuple[str, ...] = ()
    savings: Mapping[str, str] = field(default_factory=dict)
    compare: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    persistence: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, ModelSize] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    packed: tuple[PackedFor, ...] = ()
    audited: tuple[Audited, ...] = ()
    why_absent: Mapping[str, str] = field(default_factory=dict, metadata={PLACEMENT: True})
    hours: Hours | None = placement(None)


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """By step id, the output folders of evaluations (``Cell.step`` and ``Cell.evals``), of pack steps and of audits."""

    evaluations: Mapping[str, Path]
    packed: Mapping[str, Path] = field(default_factory=dict)
    audits: Mapping[str, Path] = field(default_factory=dict)
