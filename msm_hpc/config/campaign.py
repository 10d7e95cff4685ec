"""What Hydra composes: a campaign, its sources, stages and arms, the model, and the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from msm_hpc.base.errors import UserError
from msm_hpc.config.arms import Chain, Link, Stage
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.consistency import inconsistencies
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.evals import Eval
from msm_hpc.config.generation import Persona, Writing
from msm_hpc.config.quality import Quality
from msm_hpc.config.schema import Name, Strict
from msm_hpc.config.serving import Serving
from msm_hpc.config.sources import Corpus, Source, refuse_empty, refuse_twice
from msm_hpc.config.stages import EvalConfig, ExportConfig, ModelConfig
from msm_hpc.config.training import Lora, Precision
from tokenization.documents import TurnsTrained


@dataclass(frozen=True, kw_only=True)
class Spec(Strict):
    """A Model Spec: the name of a file ``spec/NAME.md`` of the configuration tree, or any Markdown file by ``file``."""

    name: Name
    file: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Campaign(Strict):
    """What to find out: models x arms x specs x ladder sizes x seeds, measured on every value.

    Attributes:
        models: files of ``configs/model/``, where there are several; one alone is the choice ``model=NAME``.
        arms: those of the table ``arms`` that are trained.
        contrast: the arms whose specs the report compares with each other, where they are trained.
        savings: on a ladder of data sizes, the arms of which the report says how much less data they need, each with
            the arm that it is compared with.
        compare: the arms that the report tests against others by every eval, each with those others.
        persistence: the arms that end with further training on a ladder of sizes, each with the arm without it: the
            report draws how much of an eval's result is left.
        values: what preferences are asked about.
        evals: entries of the table ``evals`` that measure every cell; without these and ``values`` it trains and
            exports only.
        prompted: arms that are asked with each of the specs in the system turn, in the place of being trained on it.
        toy_recipe: whether its rates and batches are for a toy model, which is said where the model is not one.
    """

    name: Name
    title: str
    arms: tuple[str, ...]
    specs: tuple[Spec, ...]
    values: tuple[str, ...]
    seeds: tuple[NonNegativeInt, ...]
    models: tuple[str, ...] = ()
    contrast: tuple[str, ...] = ()
    savings: Mapping[str, str] = field(default_factory=dict)
    compare: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    persistence: Mapping[str, str] = field(default_factory=dict)
    evals: tuple[Name, ...] = ()
    prompted: tuple[str, ...] = ()
    toy_recipe: bool = False

    def __post_init__(self) -> None:
        refuse_empty("campaign.arms", self.arms)
        refuse_empty("campaign.seeds", self.seeds)
        for name in ("arms", "seeds", "values", "models", "contrast", "evals", "prompted"):
            refuse_twice(f"campaign.{name}", getattr(self, name))
        refuse_twice("campaign.specs", tuple(spec.name for spec in self.specs))


@dataclass(frozen=True, kw_only=True)
class GenerateSection(Strict):
    """The generator of all sources that are generated, and its seed.

    Attributes:
        generator: templates of a toy world, or a language model at ``endpoint``.
        serving: how each task starts a server of ``weights``, a Hugging Face folder, as the model of ``endpoint``.
        vocabulary: has a model from scratch take a tokenizer of so many tokens, trained on all that the campaign trains
            on, in the place of the toy world's words.
        persona: the names of the assistant and of its maker in all that a language model writes.
        writing: how it is asked.
        tasks: array tasks that write one corpus.
    """

    generator: Literal["offline_toy", "endpoint"] = "offline_toy"
    seed: int = 0
    vocabulary: PositiveInt | None = None
    endpoint: Endpoint | None = None
    serving: Serving | None = None
    weights: Path | None = None
    persona: Persona | None = None
    writing: Writing = field(default_factory=Writing)
    tasks: PositiveInt = 1


@dataclass(frozen=True, kw_only=True)
class TokenizeSection(Strict):
    """``tasks`` array tasks for each corpus; the rest is as in :class:`tokenization.tokenize.TokenizeConfig`."""

    tasks: PositiveInt = 1
    cot: Literal["train", "mask"] = "train"
    turns: TurnsTrained = "as_printed"
    special_text: bool = False
    on_bad: Literal["stop", "skip"] = "stop"
    max_bad: Annotated[float, Field(ge=0, le=1)] = 0.001


@dataclass(frozen=True, kw_only=True)
class Config(Strict):
    """The whole composed configuration, of one model of the campaign.

    Attributes:
        start: the chain before every arm: the pretraining of a model from scratch, nothing for one with weights.
        lora: what ``midtrain`` and ``aft`` take, unless they say otherwise.
        evals: what a campaign may measure, by name.
        judge: who judges replies.
        serving: how trained models are asked for replies.
        notices: shown above the report's own.
    """

    root: Path
    campaign: Campaign
    model: ModelConfig
    cluster: Cluster
    precision: Precision
    lora: Lora | None = None
    sources: Mapping[Name, Source]
    stages: Mapping[Name, Stage]
    arms: Mapping[Name, Chain]
    start: Chain = ()
    generate: GenerateSection = GenerateSection()
    quality: Quality = field(default_factory=Quality)
    tokenize: TokenizeSection = TokenizeSection()
    export: ExportConfig
    eval: EvalConfig
    evals: Mapping[Name, Eval] = field(default_factory=dict)
    judge: Endpoint | None = None
    serving: Serving = field(default_factory=Serving)
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if problems := [*inconsistencies(self)]:
            raise UserError("\n".join(dict.fromkeys(problems)))

    def chain(self, arm: str) -> Chain:
        """All links of an arm, those of ``start`` first, without sources of which no row is taken."""
        links = (*self.start, *self.arms[arm])
        return self._with_rows(links)

    @property
    def beginning(self) -> Chain:
        """The links before those of any arm; after none, the model is the one to start from."""
        return self._with_rows(self.start)

    def _with_rows(self, links: Chain) -> Chain:
        return tuple(Link(stage=link.stage, sources=used) for link in links if (used := self.used(link)))

    @property
    def stages_used(self) -> tuple[str, ...]:
        """The stages of the campaign's arms, in the order of work."""
        chains = [self.chain(arm) for arm in self.campaign.arms]
        deep = max(map(len, chains), default=0)
        return tuple(dict.fromkeys(chain[i].stage for i in range(deep) for chain in chains if i < len(chain)))

    @property
    def sources_used(self) -> frozenset[str]:
        """The sources that the campaign's arms are trained on."""
        return frozenset(name for arm in self.campaign.arms for link in self.chain(arm) for name in link.sources)

    def used(self, link: Link) -> tuple[str, ...]:
        """The sources of a link of which any row is taken, parts in the place of those that stand for them."""
        given = [(self.sources[name], name) for name in link.sources if self.sources[name].rows != 0]
        names = [part for source, name in given for part in (source.parts if source.replaced else (name,))]
        return tuple(name for name in names if self.sources[name].rows != 0)

    def corpus_of(self, source: str) -> str:
        """The name of the source whose corpus ``source`` takes from: mostly its own."""
        return self.sources[source].of or source

    def owner(self, source: str) -> Source:
        """The source whose corpus ``source`` takes from."""
        return self.sources[self.corpus_of(source)]

    def corpus(self, source: str, spec: str | None) -> Corpus:
        """The corpus that ``source`` takes from in an arm trained on ``spec``."""
        each = self.sources[source].spec or spec
        return Corpus(self.corpus_of(source), each if self.owner(source).for_each == "spec" else None)

    def corpora(self, source: str) -> tuple[Corpus, ...]:
        """All corpora that ``source`` takes from: one, or one for each spec."""
        each = [spec.name for spec in self.campaign.specs] if self.varies(source) else [None]
        return tuple(self.corpus(source, spec) for spec in each)

    def varies(self, source: str) -> bool:
        """Whether what ``source`` takes from differs with the spec that an arm is trained on."""
        return self.owner(source).for_each == "spec" and self.sources[source].spec is None

    def own_file(self, corpus: Corpus) -> Path | None:
        """The user's own file of a corpus, if it is not generated."""
        source = self.sources[corpus.source]
        return source.files.get(corpus.each) if corpus.each else source.file

    @property
    def generated(self) -> frozenset[str]:
        """The names of sources of which any corpus that is trained on, or asked about, is generated."""
        corpora = [*(each for name in self.sources_used for each in self.corpora(name)), *self.pairs.values()]
        return frozenset(corpus.source for corpus in corpora if self.own_file(corpus) is None)

    def counted(self, source: str) -> Literal["documents", "chats", "turns"]:
        """What amounts of a source count: its rows, or of its chats each turn that is a sequence of its own."""
        kind = self.owner(source).kind
        assert kind != "pairs", "no arm is trained on pairs"
        return "turns" if kind == "chats" and self.tokenize.turns == "each_by_its_prefix" else kind

    @property
    def pairs(self) -> Mapping[str, Corpus]:
        """The pairs that evals ask about, by value."""
        names = [name for name, source in self.sources.items() if source.kind == "pairs"]
        return {value: Corpus(name, value) for name in names for value in self.campaign.values}

    def ladder(self, arm: str) -> tuple[int | None, ...]:
        """The sizes of the one source of an arm that has a ladder; one cell without a size where none has."""
        sizes = [self.sources[name].ladder for link in self.chain(arm) for name in link.sources]
        return next((ladder for ladder in sizes if ladder), (None,))

    def by_spec(self, links: Chain) -> bool:
        """Whether any source of the links has a corpus for each spec."""
        return any(self.varies(name) for link in links for name in link.sources)

    def specs_of(self, arm: str) -> tuple[str | None, ...]:
        """The specs that an arm is trained on, or asked with; one cell without a spec where it is neither."""
        if arm in self.campaign.prompted or self.by_spec(self.chain(arm)):
            return tuple(spec.name for spec in self.campaign.specs)
        return (None,)

    def laddered(self, links: Chain) -> bool:
        """Whether any source of the links has a ladder of sizes."""
        return any(self.sources[name].ladder for link in links for name in link.sources)

    def once(self, links: Chain) -> bool:
        """Whether the links are trained once, and not for each seed."""
        return all(self.stages[link.stage].once for link in links)
