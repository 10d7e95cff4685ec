"""The steps of one model of a campaign: corpora, shards, packs, trainings and exports, and what is to be measured.

With LoRA what is trained is an adapter, and its *base* the model after the last stage that trains all weights. Every
training of an adapter reads its base, and so does every evaluation: one export of it serves all of a ladder.

What a language model has written is tokenised after an audit of it, of which nothing is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from itertools import takewhile
from pathlib import Path
from typing import Protocol

from msm_hpc.config.arms import Chain, Link
from msm_hpc.config.campaign import Config, Spec
from msm_hpc.config.sources import Corpus
from msm_hpc.config.stages import Cell, GenerateConfig, ModelConfig
from msm_hpc.evals.asked import ASKED
from msm_hpc.graph.evals import Subject
from msm_hpc.graph.generation import Served, about_itself, audited, reworked, written
from msm_hpc.graph.labels import arms_by_chain, label_parts
from msm_hpc.graph.shares import in_shares
from msm_hpc.graph.steps import File, Inputs, Origin, Step
from msm_hpc.graph.trainings import as_it_runs, packing
from tokenization.download import DownloadConfig
from tokenization.reading.formats import PLAIN
from tokenization.reading.hub import DatasetName
from tokenization.tokenize import TokenizeConfig
from tokenization.train import TokenizerConfig


class Outside(Protocol):
    """What a campaign is given from outside: where it lies, and an identity of its content."""

    def spec(self, spec: Spec) -> File:
        """The Markdown file of a spec."""
        ...

    def corpus(self, key: str, path: Path) -> File:
        """A corpus of the user's own; ``key`` is the setting that names it."""
        ...

    def weights(self, model: ModelConfig) -> File:
        """The weights of a model that is on this machine."""
        ...

    def embeddings(self, folder: Path) -> File:
        """A folder of static embeddings."""
        ...

    def split(self, share: str) -> int:
        """How many shares the share of this id was split into; 1 where it was not."""
        ...


class ModelSteps:
    """The steps of one model of the campaign; each is built once, however many cells read it."""

    def __init__(self, config: Config, outside: Outside, several: bool) -> None:
        self.config = config
        self.outside = outside
        self.prefix = (config.model.name,) if several else ()
        self.arm_of = arms_by_chain(config)
        self.audits: list[Step] = []
        self._made: dict[tuple[object, ...], Step] = {}
        # Asked for by thousands of cells, of which most share the answer:
        self._recipe = cache(lambda stage, seed: as_it_runs(config.stages[stage], config.cluster, seed))
        self._export = cache(lambda merge: dataclasses.replace(config.export, merge=merge))
        self._traits = cache(lambda links: (config.by_spec(links), config.laddered(links), config.once(links)))
        self._shards = cache(self._tokenized_of)
        self._init = cache(lambda spec, size, seed: self.exported(config.beginning, spec, size, seed))

    def _once(self, key: tuple[object, ...], make: Callable[[], Step]) -> Step:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _label(self, *parts: object) -> str:
        return "/".join(str(part) for part in (*self.prefix, *parts) if part is not None)

    # -- corpora -------------------------------------------------------------------------------------

    def corpus(self, corpus: Corpus) -> Origin:
        """A corpus: given as a file or by name, or generated."""
        own = self.config.own_file(corpus)
        if own is not None and (named := DatasetName.parse(own)) is not None:
            return self._once((named,), lambda: Step("download", corpus.name, DownloadConfig(**vars(named)), {}))
        if own is not None:
            return self.outside.corpus(corpus.key, own)
        return self._once((corpus,), lambda: self._generated(corpus))

    def _generated(self, corpus: Corpus) -> Step:
        source, generator = self.config.sources[corpus.source], self.config.generate
        assert source.generate is not None, "config.consistency has seen to it"
        name = corpus.each if source.for_each == "spec" else source.generate.spec
        spec = self.specs.get(name or "")
        if source.generate.product == "identity":
            return about_itself(corpus.name, source.generate, generator)
        if generator.generator == "endpoint":
            assert spec is not None, "config.consistency has seen to it"
            if source.generate.of is not None:
                rows = self.corpus(Corpus(source.generate.of, corpus.each))
                assert isinstance(rows, Step), "config.consistency has seen to it"
                write = reworked(corpus.name, source.generate, generator, spec, rows, self._writer)
            else:
                write = written(corpus.name, source.generate, generator, spec, self._writer)
            return in_shares(write, generator.tasks, self.outside.split)
        config = GenerateConfig(
            seed=generator.seed,
            product=source.generate.product,
            count=source.generate.rows or 0,
            value=corpus.each if source.for_each == "value" else None,
        )
        inputs: Inputs = {"spec": spec} if spec and source.for_each == "spec" else {}
        return Step("generate", corpus.name, config, inputs)

    @cached_property
    def _writer(self) -> Served:
        """The weights that write corpora, where we serve them."""
        weights = self.config.generate.weights
        return {"model": self.outside.weights(ModelConfig(name="generate.weights", folder=weights))} if weights else {}

    def tokenized(self, corpus: Corpus) -> Step:
        """A tokenised corpus: one step, gathered from as many shares as there are tasks."""
        return self._once(("tokenized", corpus), lambda: self._tokenized(corpus))

    def _tokenized(self, corpus: Corpus) -> Step:
        settings = self.config.tokenize
        read = self.corpus(corpus)
        inputs: Inputs = {"corpus": read, "tokenizer": self.tokenizer}
        after = (self._audited(read),) if isinstance(read, Step) and read.kind == "write" else ()
        label = self._label(corpus.name)
        options = {name: value for name, value in vars(settings).items() if name != "tasks"}
        options |= vars(self.config.sources[corpus.source].shape)
        whole = Step("tokenize", label, TokenizeConfig(**options), inputs, after=after)
        return in_shares(whole, settings.tasks, self.outside.split)

    def _audited(self, write: Step) -> Step:
        quality = self.config.quality
        embeddings = self.outside.embeddings(quality.embeddings) if quality.embeddings else None
        items = dict(self.pairs)
        for name in self.config.campaign.evals:
            for asked, file in ASKED.get(self.config.evals[name].task, {}).items():
                items[asked] = self.outside.corpus("campaign.evals", file)
        self.audits.append(audited(write, quality, items, embeddings))
        return self.audits[-1]

    def shards(self, link: Link, spec: str | None) -> Mapping[str, Step]:
        """The tokenised corpora of a stage's sources, by name, in the order of the names."""
        return self._shards(link, spec)

    def _tokenized_of(self, link: Link, spec: str | None) -> Mapping[str, Step]:
        corpora = {corpus.name: corpus for corpus in (self.config.corpus(source, spec) for source in link.sources)}
        return {name: self.tokenized(corpora[name]) for name in sorted(corpora)}

    def pack(self, link: Link, spec: str | None, size: int | None, seed: int) -> Step:
        """The pack plan of what a stage takes of its sources."""
        spec, size, _ = self._own((link,), spec, size, seed)
        return self._once(("pack", link, spec, size, seed), lambda: self._packed(link, spec, size, seed))

    def _packed(self, link: Link, spec: str | None, size: int | None, seed: int) -> Step:
        corpora = {name: self.config.corpus(name, spec) for name in link.sources}
        config = packing(self.config, link.stage, corpora, size, seed)
        shards = self.shards(link, spec)
        label = self._label(link.stage, "+".join(shards), size, f"seed{seed}")
        return Step("pack", label, config, {"tokenizer": self.tokenizer, "shards": shards})

    # -- models --------------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> Step:
        """The step whose output has the tokenizer."""
        if self.config.model.architecture is None:
            return self.model
        if self.config.generate.vocabulary is None:
            return Step("generate", "tokenizer", GenerateConfig(product="tokenizer"), {})
        corpora = [corpus for name in sorted(self.config.sources_used) for corpus in self.config.corpora(name)]
        shapes = {corpus.name: self.config.sources[corpus.source].shape for corpus in corpora}
        config = TokenizerConfig(
            vocabulary=self.config.generate.vocabulary,
            shapes={name: shape for name, shape in shapes.items() if shape != PLAIN},
        )
        inputs: Inputs = {"corpora": {corpus.name: self.corpus(corpus) for corpus in corpora}}
        return Step("tokenizer", self._label("own_texts"), config, inputs)

    @cached_property
    def model(self) -> Step:
        """The starting model: its description, and its weights if it has any."""
        model = self.config.model
        inputs: Inputs = {}
        if model.architecture is not None:
            inputs = {"tokenizer": self.tokenizer}
        elif model.hub is None:
            inputs = {"weights": self.outside.weights(model)}
        return Step("model", model.name, model, inputs)

    def trained(self, links: Chain, spec: str | None, size: int | None, seed: int) -> Step:
        """The model after a chain of stages; after none, the one to start from.

        It is built once for what its stages depend on: a chain without a source for each spec is the same for all
        specs, one that is trained ``once`` the same for all ``seed``.
        """
        if not links:
            return self.model
        spec, size, own_seed = self._own(links, spec, size, seed)
        return self._once(
            ("trained", links, spec, size, own_seed), lambda: self._trained(links, spec, size, seed, own_seed)
        )

    def _own(
        self, links: Chain, spec: str | None, size: int | None, seed: int
    ) -> tuple[str | None, int | None, int | None]:
        """Those of a cell's spec, size and seed that a chain of stages depends on."""
        by_spec, laddered, once = self._traits(links)
        return spec if by_spec else None, size if laddered else None, None if once else seed

    def _trained(self, links: Chain, spec: str | None, size: int | None, seed: int, own_seed: int | None) -> Step:
        *_, link = links
        config = self._recipe(link.stage, seed)
        plan = self.pack(link, spec, size, config.seed)
        inputs: dict[str, Origin | Mapping[str, Origin]] = {
            "model": self.model,
            "plan": plan,
            "shards": self.shards(link, spec),
        }
        before, base = links[:-1], self._base_of(links)
        if base != links:
            inputs["base"] = self.trained(base, spec, size, seed)
        # The first stage of a model from scratch draws its weights, and the first one after the base its adapter.
        if before != base and (before or self.config.model.architecture is None):
            inputs["checkpoint"] = self.trained(before, spec, size, seed)
        label = self._label(*label_parts(self.arm_of[links], spec, size, own_seed))
        return Step("train", label, config, inputs, recipe=link.stage)

    def _base_of(self, links: Chain) -> Chain:
        """The stages of a chain that train all weights: those before the first that trains an adapter."""
        return tuple(takewhile(lambda link: self.config.stages[link.stage].lora is None, links))

    def exported(self, links: Chain, spec: str | None, size: int | None, seed: int) -> Step:
        """The Hugging Face model after a chain of stages; of an adapter that is not merged, that alone."""
        trained = self.trained(links, spec, size, seed)
        return self._once(("exported", trained.id), lambda: self._exported(trained, links, spec, size, seed))

    def _exported(self, trained: Step, links: Chain, spec: str | None, size: int | None, seed: int) -> Step:
        base, merge = self._base_of(links), self.config.export.merge
        inputs: dict[str, Origin] = {"model": self.model, "checkpoint": trained}
        if base != links and merge:
            inputs["base"] = self.trained(base, spec, size, seed)
        elif base != links:
            inputs["base_model"] = self.exported(base, spec, size, seed)
        return Step("export", self._label_of(links, spec, size, seed), self._export(merge and base != links), inputs)

    def _label_of(self, links: Chain, spec: str | None, size: int | None, seed: int) -> str:
        """The label of the export after a chain: as the first arm that is this chain, if there is one."""
        arm = self._arm_that_is.get(links) or self.arm_of.get(links, "base")
        return self._label(*label_parts(arm, *self._own(links, spec, size, seed)))

    @cached_property
    def _arm_that_is(self) -> Mapping[Chain, str]:
        """The first arm that is each chain."""
        return {self.config.chain(arm): arm for arm in reversed(self.config.campaign.arms)}

    # -- cells ---------------------------------------------------------------------------------------

    def subjects(self) -> Iterator[Subject]:
        """Every arm x spec x ladder size x seed; an arm without a seed of its own is there once."""
        campaign = self.config.campaign
        for arm in campaign.arms:
            chain = self.config.chain(arm)
            once = self.config.once(chain)  # true of an arm that trains nothing, too
            for spec in self.config.specs_of(arm):
                for size in self.config.ladder(arm):
                    for seed in campaign.seeds[:1] if once else campaign.seeds:
                        yield self._subject(arm, chain, spec, size, seed)

    def _subject(self, arm: str, chain: Chain, spec: str | None, size: int | None, seed: int) -> Subject:
        exported = self.exported(chain, spec, size, seed)
        prompted = arm in self.config.campaign.prompted
        own_seed = None if self.config.once(chain) else seed
        return Subject(
            config=self.config,
            cell=Cell(model=self.config.model.name, arm=arm, spec=spec, size=size, seed=seed),
            exported=exported,
            label=self._label(*label_parts(arm, spec, size, own_seed)) if prompted else exported.label,
            init=self._init(spec, size, seed),
            pairs=self.pairs,
            documents=self.documents,
            specs=self.specs,
            prompted=prompted,
        )

    @cached_property
    def specs(self) -> Mapping[str, File]:
        """The campaign's specs, by name."""
        return {spec.name: self.outside.spec(spec) for spec in self.config.campaign.specs}

    @cached_property
    def documents(self) -> Mapping[str, Origin]:
        """By source, the texts that evals score and no arm is trained on."""
        asked = [self.config.evals[name].documents for name in self.config.campaign.evals]
        return {source: self.corpus(self.config.corpus(source, None)) for source in asked if source is not None}

    @cached_property
    def pairs(self) -> Mapping[str, Origin]:
        """What evals ask about, by value."""
        return {value: self.corpus(corpus) for value, corpus in self.config.pairs.items()}
