"""From configurations to the step graph: models x arms x specs x ladder sizes x seeds, shared where they are equal.

::

    generate ─▶ tokenize ─▶ pack ─▶ train (pretrain) ─▶ train (midtrain) ─▶ train (aft) ─▶ export ─▶ eval ─▶ report

What comes before an export is in :mod:`msm_hpc.graph.model_steps`, what comes after it in :mod:`msm_hpc.graph.evals`.

Nothing here asks the disk: what files there are outside, and what is in them, is asked of an :class:`Outside`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Literal

from msm_hpc.base.errors import UserError
from msm_hpc.base.text import few
from msm_hpc.config.campaign import Config
from msm_hpc.config.stages import Audited, Cell, ModelSize, ReportConfig
from msm_hpc.graph.evals import Measured, measured
from msm_hpc.graph.model_steps import ModelSteps, Outside
from msm_hpc.graph.notices import notices, taken
from msm_hpc.graph.steps import Step, topological
from msm_hpc.graph.trainings import packed_for
from msm_hpc.model.architecture import family_of, parse_architecture


@dataclass(frozen=True)
class Graph:
    """The steps of a campaign.

    Attributes:
        targets: the steps that all others are made for; audits are among them, whatever is tokenised already.
        cells: the models that are measured, each with the evaluation of its preferences, or without values its export.
        evals: each of them with each step that measures it otherwise.
        report: reads every evaluation; None where the campaign measures nothing.
    """

    targets: tuple[Step, ...]
    cells: tuple[tuple[Cell, Step], ...] = ()
    evals: tuple[tuple[Cell, Step], ...] = ()
    report: Step | None = None

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps, inputs before the steps that read them."""
        return topological(self.targets)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """The stages (or kinds) of the steps, in the order of work: by the deepest step of each in the graph."""
        depths: dict[str, int] = {}
        deepest: dict[str, int] = {}
        for step in self.steps:
            depths[step.identity] = 1 + max((depths[parent.identity] for parent in step.parents), default=-1)
            deepest[step.stage] = max(deepest.get(step.stage, 0), depths[step.identity])
        return tuple(sorted(deepest, key=lambda stage: deepest[stage]))

    def needed(self, done: Callable[[Step], bool]) -> tuple[Step, ...]:
        """The steps still to be made: those of the targets that are not done, and what they need that is not."""
        read, needed = {target.identity for target in self.targets}, list[Step]()
        for step in reversed(self.steps):  # so that all who read it come first
            if step.identity in read and not done(step):
                needed.append(step)
                read.update([parent.identity for parent in step.parents])
        return tuple(reversed(needed))

    @cached_property
    def ids(self) -> frozenset[str]:
        """The ids of all steps."""
        return frozenset(step.id for step in self.steps)

    def find(self, name: str) -> Step:
        """The step with this name or id; a start of the id will do where it is unambiguous.

        Raises:
            UserError: no step, or more than one, goes by that name.
        """
        found = [step for step in self.steps if name == step.name] or [
            step for step in self.steps if step.id.startswith(name)
        ]
        if len(found) == 1:
            return found[0]
        listed = "`msm plan --steps` lists the names and ids"
        if found:
            those = few([f"{step.name} ({step.id})" for step in found])
            raise UserError(f"{name!r} is the start of {len(found)} steps; give one of {those}; {listed}")
        near = few(self._near(name))
        hint = f"; there are {near}" if near else ""
        raise UserError(f"no step {name!r} in this campaign{hint}; {listed}")

    def _near(self, name: str) -> list[str]:
        """The names of steps that begin with what was asked for, or else have it in them, or are most like it."""
        names = [step.name for step in self.steps]
        begun = [each for each in names if each.startswith(name)]
        return begun or [each for each in names if name in each] or get_close_matches(name, names)


def build_graph(configs: Sequence[Config], outside: Outside) -> Graph:
    """The graph of a campaign, of which ``configs`` holds one configuration for each model."""
    models = [ModelSteps(config, outside, several=len(configs) > 1) for config in configs]
    found = measured([subject for model in models for subject in model.subjects()], outside.split)
    said = dict.fromkeys(notice for model in models for notice in taken(model.config, model.corpus))
    campaign = configs[0].campaign
    audits = tuple(audit for model in models for audit in model.audits)
    sizes = dict(_sizes(configs)) if len(configs) > 1 else {}
    report = _report(configs[0], found, tuple(said), audits, sizes) if campaign.values or campaign.evals else None
    return Graph(
        targets=(*audits, *((report,) if report else (each.exported for each in found))),
        cells=tuple((each.cell, each.last) for each in found),
        evals=tuple((each.cell, step) for each in found for step in each.evals.values()),
        report=report,
    )


def _sizes(configs: Sequence[Config]) -> Iterator[tuple[str, ModelSize]]:
    """Of the models whose shape is known before their weights are there."""
    for model in (config.model for config in configs):
        if model.shape is not None:
            shape = parse_architecture(f"model {model.name}: shape", model.shape)
            yield model.name, ModelSize(family=family_of(shape)[1].model_type, parameters=shape.parameters)


def _report(
    config: Config,
    found: Sequence[Measured],
    said: tuple[str, ...],
    audits: Sequence[Step],
    sizes: Mapping[str, ModelSize],
) -> Step:
    evaluations = tuple(step for each in found for step in each.evaluations)
    steps = topological(evaluations)
    packed = dict(packed_for(steps))
    audited = {step.id: step.label for step in audits}
    return Step(
        "report",
        config.campaign.name,
        ReportConfig(
            title=config.campaign.title,
            cells=tuple(each.cell for each in found),
            counted=_counted(config),
            contrasts=tuple(arm for arm in config.campaign.contrast if arm in config.campaign.arms),
            savings=_of_trained(config, config.campaign.savings),
            compare={
                arm: tuple(other for other in others if other in config.campaign.arms)
                for arm, others in config.campaign.compare.items()
                if arm in config.campaign.arms
            },
            persistence=_of_trained(config, config.campaign.persistence),
            models=sizes,
            notices=(*config.notices, *notices(steps), *said),
            packed=tuple(packed),
            audited=tuple(Audited(corpus=name, step=step_id) for step_id, name in audited.items()),
        ),
        {
            "evaluations": {step.id: step for step in evaluations},
            "packed": {step.id: step for step in packed.values()},
            "audits": {step.id: step for step in audits},
        },
    )


def _of_trained(config: Config, pairs: Mapping[str, str]) -> dict[str, str]:
    """Of pairs of arms those of which the campaign trains both."""
    return {arm: of for arm, of in pairs.items() if {arm, of} <= {*config.campaign.arms}}


def _counted(config: Config) -> Literal["chats", "turns", "documents", "rows"]:
    """What the sizes of ladders count."""
    counted = {config.counted(name) for name in config.sources_used if config.sources[name].ladder}
    return counted.pop() if len(counted) == 1 else "rows" if counted else "chats"
