"""Evals: what trained models are asked beside preferences by log-probability, who judges, and how the model is served.

::

    campaign: {evals: [agentic, open_qa]}
    evals:
      agentic: {task: agentic, samples: 300, temperature: 0.7, max_tokens: 4096}
      open_qa: {task: open_qa}
    judge: {model: a-judge-2026-08-01, base_url: https://…/v1, key_variable: JUDGE_KEY}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, NonNegativeInt, PositiveInt

from msm_hpc.base.text import meant
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.schema import Name, Strict, placement
from msm_hpc.config.serving import Program, Serving
from tokenization.reading.formats import PLAIN, RowShape

if TYPE_CHECKING:
    from msm_hpc.config.campaign import Config

Asked = Literal["agentic", "episodes", "open_qa", "choice", "formats"]
"""Tasks of which a model writes replies."""
Scored = Literal[Asked, "reasoning"]
"""Tasks whose replies, or another eval's, are scored."""
Task = Literal[
    "agentic", "episodes", "open_qa", "choice", "formats", "reasoning", "perplexity", "direction", "capability"
]
Temperature = Annotated[float, Field(ge=0, le=2)]
MOST_SHARES = 1_000
"""More than replies, or than a cluster has GPUs, are a slip of the keyboard; each loads the model."""

INSIDE: frozenset[Task] = frozenset({"perplexity", "direction", "capability"})
"""Tasks that look at the model itself, which writes nothing."""
JUDGED: frozenset[Task] = frozenset({"agentic", "episodes", "open_qa", "reasoning"})
"""Tasks that need a judge. ``choice`` asks one where the text alone does not say what was chosen, if there is one."""
UNJUDGED: frozenset[Task] = frozenset({"formats"})
AGENTIC: frozenset[Task] = frozenset({"agentic", "episodes"})
_ASKED: frozenset[Task] = frozenset(get_args(Asked))
USED_BY: Mapping[str, frozenset[Task]] = {
    **dict.fromkeys(("samples", "items", "temperature", "max_tokens", "shares"), _ASKED),
    **dict.fromkeys(("agent", "scratchpad"), AGENTIC),
    **dict.fromkeys(("of", "coded"), frozenset[Task]({"reasoning"})),
    "spec": frozenset({"open_qa"}),
    "documents": frozenset({"perplexity"}),
    **dict.fromkeys(("tasks", "arguments", "tuning", "python"), frozenset[Task]({"capability"})),
}
"""The tasks that a setting of an entry means something for."""


@dataclass(frozen=True, kw_only=True)
class Eval(Strict):
    """One entry of ``evals``: a task, and how often and how each of its items is asked.

    Attributes:
        samples: replies to each item.
        items: the most items that are asked, the groups' first ones first; all where it is null.
        max_tokens: the most tokens of a reply, thoughts included.
        agent: what the agent of ``agentic`` and ``episodes`` is called.
        scratchpad: whether it is asked to think in a scratchpad; false for models that think by themselves.
        spec: of ``open_qa``, the spec that all cells' answers are rated against; may be left out where there is one.
        of: of ``reasoning``, the eval whose replies are read.
        documents: of ``perplexity``, the source whose file has the texts, which no arm may be trained on; without it
            they are the paragraphs that ship.
        coded: of ``reasoning``, the number of replies, of all cells, in which patterns are looked for.
        shares: array tasks that ask one model, 1,000 at most.
        tasks: of ``capability``, what lm-eval calls them.
        arguments: further ones of lm-eval, such as ``--num_fewshot=5``.
        tuning: those that change no result, such as ``--batch_size=auto``.
        python: the interpreter of the environment that lm-eval is installed in.
    """

    task: Task
    samples: PositiveInt = 1
    items: PositiveInt | None = None
    temperature: Temperature = 0.7
    max_tokens: PositiveInt = 4096
    agent: str = "Qwen"
    scratchpad: bool = True
    spec: Name | None = None
    of: Name | None = None
    documents: Name | None = None
    coded: PositiveInt = 400
    shares: Annotated[int, Field(ge=1, le=MOST_SHARES)] = 1
    tasks: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    tuning: tuple[str, ...] = ()
    python: Program = ""


@dataclass(frozen=True, kw_only=True)
class SampleConfig(Strict):
    """What a trained model is asked; task ``share`` of ``shares`` asks its share of the samples of at most ``items``.

    ``prompts`` is the hash of all that can be asked, word for word.
    """

    task: Asked
    samples: PositiveInt
    items: PositiveInt | None = None
    temperature: Temperature
    max_tokens: PositiveInt
    agent: str = ""
    scratchpad: bool = False
    prompts: str
    serving: Serving
    share: NonNegativeInt = 0
    shares: PositiveInt = 1


@dataclass(frozen=True, kw_only=True)
class SampleInputs:
    """What a trained model is asked from.

    Attributes:
        model: a Hugging Face folder.
        adapter: the export of an adapter, of which ``model`` is the base.
        pairs: of ``choice``, by value, a file of pairs or a folder with ``pairs.jsonl``.
        spec: what is in the system turn of every item, of an arm that is asked with a spec instead of trained on it.
    """

    model: Path
    adapter: Path | None = None
    pairs: Mapping[str, Path] = field(default_factory=dict)
    spec: Path | None = None


@dataclass(frozen=True, kw_only=True)
class GatherRepliesInputs:
    """The output folders of the shares 0 to N - 1, in order."""

    shares: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(Strict):
    """How replies are scored.

    Attributes:
        eval: what the campaign calls the eval.
        samples: how many replies to each item there should be: those that are not there are shown as missing.
        items: the most items that were asked.
        judge: who is asked about them, if anybody.
        prompts: the hash of all that the judge is asked with, but for the replies.
    """

    eval: Name
    task: Scored
    samples: PositiveInt
    items: PositiveInt | None = None
    judge: Endpoint | None = None
    prompts: str = ""


@dataclass(frozen=True, kw_only=True)
class ScoreInputs:
    """What is scored, and against what.

    Attributes:
        replies: a sample step's output.
        pairs: of ``choice``, those that were asked about.
        preference: of ``choice``, an eval step's output: what the model prefers of them by log-probability.
        spec: of ``open_qa``, what answers are rated against.
        patterns: of ``reasoning``, a patterns step's output.
    """

    replies: Path
    pairs: Mapping[str, Path] = field(default_factory=dict)
    preference: Path | None = None
    spec: Path | None = None
    patterns: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PatternsConfig(Strict):
    """Looking for patterns of reasoning in ``coded`` replies, taken evenly from all models."""

    coded: PositiveInt
    judge: Endpoint
    prompts: str


@dataclass(frozen=True, kw_only=True)
class PatternsInputs:
    """``replies``: sample steps' outputs, by step id."""

    replies: Mapping[str, Path]


@dataclass(frozen=True, kw_only=True)
class PerplexityConfig(Strict):
    """How documents are scored.

    Attributes:
        eval: what the campaign calls the eval.
        texts: a hash of the texts that ship, where those are scored.
        count: of the documents of the user's own, the most that are scored, from the first on.
        shape: how its rows are written.
        longest: the tokens of a document that are looked at, from the first on.
    """

    eval: Name
    texts: str = ""
    count: PositiveInt = 500
    shape: RowShape = PLAIN
    longest: Annotated[int, Field(ge=2)] = 1024
    tokens_per_batch: PositiveInt = placement(512)


@dataclass(frozen=True, kw_only=True)
class PerplexityInputs:
    """What is scored, and by what.

    Attributes:
        model: a Hugging Face folder.
        adapter: the export of an adapter, of which ``model`` is the base.
        documents: a corpus; the paragraphs that ship where there is none.
    """

    model: Path
    adapter: Path | None = None
    documents: Path | None = None


@dataclass(frozen=True, kw_only=True)
class DirectionConfig(Strict):
    """How a direction is found, and how far a model has moved along it.

    Attributes:
        eval: what the campaign calls the eval.
        answer: the template of an answer.
        shuffles: of the labels, for the control.
    """

    eval: Name
    answer: str = "I prefer {item} ."
    shuffles: PositiveInt = 1000
    seed: int = 0
    tokens_per_batch: PositiveInt = placement(512)


@dataclass(frozen=True, kw_only=True)
class DirectionInputs:
    """The model, the one that it began as, and the pairs.

    Attributes:
        model: a Hugging Face folder.
        adapter: the export of an adapter, of which ``model`` is the base.
        init: the Hugging Face folder of the model before training.
        pairs: by value, a file of pairs or a folder with ``pairs.jsonl``.
    """

    model: Path
    init: Path
    pairs: Mapping[str, Path]
    adapter: Path | None = None


@dataclass(frozen=True, kw_only=True)
class CapabilityConfig(Strict):
    """What lm-eval scores a model by; ``eval`` is what the campaign calls it, the rest is as in :class:`Eval`."""

    eval: Name
    tasks: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    tuning: tuple[str, ...] = placement(())
    python: Program = placement("")


@dataclass(frozen=True, kw_only=True)
class CapabilityInputs:
    """``model``: a Hugging Face folder; ``adapter``: the export of an adapter, of which it is the base."""

    model: Path
    adapter: Path | None = None


def eval_problems(config: Config) -> Iterator[str]:
    """A line for each thing in which ``evals``, ``judge`` and the campaign disagree."""
    for arm in config.campaign.prompted:
        if arm not in config.campaign.arms:
            yield f"campaign.prompted: {arm!r} is none of campaign.arms{meant(arm, config.campaign.arms)}"
        elif arm in config.arms and config.by_spec(config.arms[arm]):
            yield f"campaign.prompted: {arm} is trained on a spec already; name an arm that is not"
    if config.campaign.prompted and not config.campaign.specs:
        yield "campaign.prompted: there is no spec to ask with: give campaign.specs, or leave it out"
    for name in config.campaign.evals:
        if name not in config.evals:
            near = meant(name, config.evals)
            yield f"campaign.evals: no eval {name!r}{near}; those in `evals` are {_all(config.evals)}"
        else:
            yield from _problems(config, f"evals.{name}", config.evals[name])


def _problems(config: Config, key: str, asked: Eval) -> Iterator[str]:
    for item in fields(Eval):
        if asked.task not in USED_BY.get(item.name, {asked.task}) and getattr(asked, item.name) != item.default:
            yield f"{key}.{item.name}: {asked.task} does not use it; leave it out"
    if asked.task in JUDGED and config.judge is None:
        yield f"{key}: {asked.task} is judged by a language model: give judge.model and judge.base_url"
    if asked.task == "choice" and not config.campaign.values:
        yield f"{key}: choice asks about campaign.values, and there are none: give some, or leave the eval out"
    if asked.task == "open_qa":
        specs = [spec.name for spec in config.campaign.specs]
        if asked.spec is None and len(specs) != 1:
            yield f"{key}.spec: name the spec that all answers are rated against, of {_all(specs)}"
        elif asked.spec is not None and asked.spec not in specs:
            yield f"{key}.spec: {asked.spec!r} is none of campaign.specs, {_all(specs)}{meant(asked.spec, specs)}"
    yield from _inside_problems(config, key, asked)
    of = config.evals.get(asked.of or "")
    if asked.task == "reasoning" and (of is None or of.task not in AGENTIC):
        agentic = [name for name, each in config.evals.items() if each.task in AGENTIC]
        yield f"{key}.of is {asked.of}: name an eval of task agentic or episodes, of {_all(agentic)}"
    elif asked.task == "reasoning" and asked.of not in config.campaign.evals:
        yield f"{key}.of is {asked.of}, which is not among campaign.evals: add it there"


def _inside_problems(config: Config, key: str, asked: Eval) -> Iterator[str]:
    """What stands against looking at the model itself."""
    if asked.task == "direction" and not config.campaign.values:
        yield f"{key}: direction asks about campaign.values, and there are none: give some, or leave the eval out"
    if asked.task == "capability" and not (asked.tasks and asked.python):
        yield f"{key}: give tasks, by lm-eval's names, and the python that has lm-eval (docs/model_evals.md)"
    if asked.documents is None:
        return
    if (source := config.sources.get(asked.documents)) is None:
        yield f"{key}.documents: no source {asked.documents!r}{meant(asked.documents, config.sources)}"
    elif source.kind != "documents" or source.file is None:
        yield f"{key}.documents: {asked.documents} is no source of documents with a file; name one that is"
    else:
        trained = [name for name in sorted(config.sources_used) if config.owner(name).file == source.file]
        for name in trained:
            yield f"{key}.documents: arms are trained on {source.file} (sources.{name}.file); give other texts"


def _all(names: Mapping[str, object] | list[str]) -> str:
    return ", ".join(names) or "none"
