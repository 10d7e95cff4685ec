"""What measures each cell: preferences by log-probability, and the evals that the campaign names.

::

    export ─▶ eval                              campaign.values
    export ─▶ sample ─▶ score                   an eval for which the model writes replies, in shares
    sample of all cells ─▶ patterns ─▶ score    reasoning: one search for patterns, which every cell is scored by
    export ─▶ perplexity, direction, capability evals that look at the model itself
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from msm_hpc.config.campaign import Config
from msm_hpc.config.evals import (
    AGENTIC,
    INSIDE,
    UNJUDGED,
    Asked,
    CapabilityConfig,
    DirectionConfig,
    Eval,
    PatternsConfig,
    PerplexityConfig,
    SampleConfig,
    ScoreConfig,
    Scored,
)
from msm_hpc.config.stages import Cell
from msm_hpc.evals.held_out.paragraphs import hash_of_paragraphs
from msm_hpc.graph.shares import Split, in_shares
from msm_hpc.graph.steps import File, Origin, Step


@dataclass(frozen=True)
class Subject:
    """A cell that is to be measured.

    Attributes:
        config: the configuration of its model.
        exported: its trained model, or adapter.
        label: of the steps that measure it.
        init: the model before the arm's stages.
        pairs: what evals ask about, by value.
        documents: by source, texts that no arm is trained on.
        specs: the campaign's, by name.
        prompted: whether the cell's spec is in the system turn, in the place of having been trained on.
    """

    config: Config
    cell: Cell
    exported: Step
    label: str
    init: Step
    pairs: Mapping[str, Origin]
    documents: Mapping[str, Origin]
    specs: Mapping[str, File]
    prompted: bool

    @property
    def trained(self) -> dict[str, Origin | Mapping[str, Origin]]:
        """The trained model, and beside it the adapter if that is what was trained."""
        base = self.exported.inputs.get("base_model")
        return {"model": base, "adapter": self.exported} if base else {"model": self.exported}

    @property
    def asked(self) -> dict[str, Origin | Mapping[str, Origin]]:
        """The trained model, with the spec that is in the system turn of what it is asked."""
        if not self.prompted:
            return self.trained
        assert self.cell.spec is not None, "a prompted arm has a cell for each spec"
        return {**self.trained, "spec": self.specs[self.cell.spec]}

    @property
    def preference(self) -> Step | None:
        """The evaluation of preferences by log-probability."""
        if not self.pairs:
            return None
        return Step("eval", self.label, self.config.eval, {**self.asked, "pairs": self.pairs})


@dataclass(frozen=True)
class Measured:
    """A cell with what measures it: its preferences, if they are asked about, and by name the evals."""

    cell: Cell
    exported: Step
    preference: Step | None
    evals: Mapping[str, Step]

    @property
    def last(self) -> Step:
        """What the cell is known by: its preference evaluation, or else the export."""
        return self.preference or self.exported

    @property
    def evaluations(self) -> tuple[Step, ...]:
        """All steps that measure it."""
        return (*([self.preference] if self.preference else []), *self.evals.values())


def measured(subjects: Sequence[Subject], split: Split) -> tuple[Measured, ...]:
    """The subjects, each with all that measures it."""
    asking = _Asking(subjects, split)
    return tuple(_measured(subject, asking) for subject in subjects)


def _measured(subject: Subject, asking: _Asking) -> Measured:
    preference = subject.preference
    asked = subject.config.evals
    evals = {
        name: asking.scored(subject, name)
        for name in subject.config.campaign.evals
        if not (subject.prompted and asked[name].task in INSIDE)  # what has a spec to read is the same model
    }
    ids = {name: step.id for name, step in evals.items()}
    cell = dataclasses.replace(subject.cell, step=preference.id if preference else "", evals=ids)
    return Measured(cell, subject.exported, preference, evals)


@dataclass(frozen=True)
class _Asking:
    """The steps of evals; what several cells or evals read is made once."""

    subjects: Sequence[Subject]
    split: Split
    _patterns: dict[str, Step] = field(default_factory=dict)

    def scored(self, subject: Subject, name: str) -> Step:
        """The step whose output has a cell's scores."""
        from msm_hpc.evals.tasks.known import hash_of_judged  # here, as most campaigns ask no language model

        asked = subject.config.evals[name]
        if asked.task in INSIDE:
            return _inside(subject, name)
        inputs: dict[str, Origin | Mapping[str, Origin]] = {}
        if asked.task == "reasoning":
            assert asked.of is not None, "config.evals has seen to it"
            inputs = {"replies": self.sampled(subject, asked.of), "patterns": self.patterns(name)}
            samples = subject.config.evals[asked.of].samples
        else:
            inputs = {"replies": self.sampled(subject, name)}
            samples = asked.samples
        if asked.task == "choice":
            assert subject.preference is not None, "config.evals has seen to it"
            inputs |= {"pairs": subject.pairs, "preference": subject.preference}
        if asked.task == "open_qa":
            inputs["spec"] = subject.specs[asked.spec or next(iter(subject.specs))]
        judge = None if asked.task in UNJUDGED else subject.config.judge
        task = cast(Scored, asked.task)
        prompts = hash_of_judged(task) if judge else ""
        config = ScoreConfig(eval=name, task=task, samples=samples, items=asked.items, judge=judge, prompts=prompts)
        return Step("score", f"{subject.label}/{name}", config, inputs)

    def sampled(self, subject: Subject, name: str) -> Step:
        """The step that asks a cell's model, gathered from as many shares as there are tasks."""
        asked = subject.config.evals[name]
        inputs = subject.asked
        if asked.task == "choice":
            inputs["pairs"] = subject.pairs
        label = f"{subject.label}/{name}"
        whole = Step("sample", label, _sample_config(asked, subject.config), inputs)
        return in_shares(whole, asked.shares, self.split)

    def patterns(self, name: str) -> Step:
        """The patterns of reasoning in all cells' replies."""
        from msm_hpc.evals.tasks.known import hash_of_search  # here, as above

        if name not in self._patterns:
            config = self.subjects[0].config
            asked = config.evals[name]
            assert asked.of is not None and config.judge is not None, "config.evals has seen to it"
            replies = [self.sampled(subject, asked.of) for subject in self.subjects]
            self._patterns[name] = Step(
                "patterns",
                name,
                PatternsConfig(coded=asked.coded, judge=config.judge, prompts=hash_of_search()),
                {"replies": {step.id: step for step in replies}},
            )
        return self._patterns[name]


def _inside(subject: Subject, name: str) -> Step:
    """The step that looks at a cell's model itself."""
    config, asked = subject.config, subject.config.evals[name]
    label, tokens = f"{subject.label}/{name}", config.eval.tokens_per_batch
    if asked.task == "direction":
        direction = DirectionConfig(eval=name, answer=config.eval.answer, tokens_per_batch=tokens)
        return Step("direction", label, direction, {**subject.trained, "init": subject.init, "pairs": subject.pairs})
    if asked.task == "capability":
        capability = CapabilityConfig(
            eval=name, tasks=asked.tasks, arguments=asked.arguments, tuning=asked.tuning, python=asked.python
        )
        return Step("capability", label, capability, subject.trained)
    if asked.documents is None:
        shipped = PerplexityConfig(eval=name, texts=hash_of_paragraphs(), tokens_per_batch=tokens)
        return Step("perplexity", label, shipped, subject.trained)
    perplexity = PerplexityConfig(eval=name, shape=config.sources[asked.documents].shape, tokens_per_batch=tokens)
    return Step("perplexity", label, perplexity, {**subject.trained, "documents": subject.documents[asked.documents]})


def _sample_config(asked: Eval, config: Config) -> SampleConfig:
    from msm_hpc.evals.tasks.known import hash_of_asked  # here, as above

    task = cast(Asked, asked.task)
    agentic = task in AGENTIC
    agent, scratchpad = asked.agent if agentic else "", agentic and asked.scratchpad
    return SampleConfig(
        task=task,
        samples=asked.samples,
        items=asked.items,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
        agent=agent,
        scratchpad=scratchpad,
        prompts=hash_of_asked(task, agent, scratchpad),
        serving=config.serving,
    )
