"""What trained models are still to be asked, and how long that takes: for ``msm plan``, the budget and sample jobs.

A step that samples replies takes what finished ones below the root took for as many, else what the formula says
(:mod:`msm_hpc.planner.asking`); one that scores pairs, what the formula says. On CPUs there is no formula.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msm_hpc.base.errors import UserError
from msm_hpc.base.text import CHARACTERS_PER_TOKEN
from msm_hpc.campaign.measured import FinishedSamples, finished_samples
from msm_hpc.campaign.needs import WITH_WEIGHTS, model_of, shapes, weight_size
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.evals import Asked, SampleConfig
from msm_hpc.config.stages import EvalConfig
from msm_hpc.evals.pairs import TEXTS_PER_PAIR, Pair, read_pairs
from msm_hpc.evals.texts import spec_turn
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Step, origins
from msm_hpc.model.architecture import Transformer
from msm_hpc.planner.asking import ASSUMED_LENGTH, Placed, Requests
from msm_hpc.store.store import Store

if TYPE_CHECKING:
    from msm_hpc.evals.tasks.known import Prompts

TEMPLATE_TOKENS = 20
"""What a chat template adds to a text, by rule of thumb."""


@dataclass(frozen=True)
class AskingStep:
    """A step that asks a trained model.

    Attributes:
        replies: that are sampled, each of one or more turns; 0 where pairs are scored.
        requests: what of the model is asked for these; None where the pairs are not known yet.
        seconds: that it takes, None where that is not known.
        by: what ``seconds`` are from.
    """

    step: Step
    replies: int
    requests: Requests | None
    seconds: float | None
    by: Literal["own runs", "formula"]


def askings(graph: Graph, store: Store, cluster: Cluster) -> tuple[AskingStep, ...]:
    """The steps of ``graph`` that are left and ask a model themselves: whole ones, or shares.

    Raises:
        UserError: a model cannot be trained.
    """
    left = [step for step in graph.needed(store.done) if isinstance(step.config, SampleConfig | EvalConfig)]
    asking = [step for step in left if not step.shares]
    if not asking:
        return ()
    texts, finished, models = _Texts(store), finished_samples(store, cluster), shapes(graph)
    made: dict[Hashable, AskingStep] = {}
    found = []
    for step in asking:
        if (key := _alike(step)) not in made:
            made[key] = _asking(step, texts, finished, models.get(model_of(step)), cluster)
        found.append(replace(made[key], step=step))
    return tuple(found)


def _alike(step: Step) -> Hashable:
    """What steps agree in that take as long: thousands differ in nothing else than whose weights they read."""
    exported = step.inputs["model"]
    assert isinstance(exported, Step)
    texts = ((role, origin.identity) for role, origin in origins(step.inputs) if role not in ("model", "adapter"))
    return model_of(step), exported.kind, id(exported.config), step.config, tuple(texts)


def seconds_of_asking(found: Iterable[AskingStep]) -> dict[str, float]:
    """What each step takes whose time is known, by its identity."""
    return {each.step.identity: each.seconds for each in found if each.seconds is not None}


def sampling_minutes(found: Iterable[AskingStep]) -> dict[str, float]:
    """The same in minutes, of sample steps that own runs forecast: by the formula no job is cut off."""
    own = (each for each in found if each.by == "own runs")
    return {identity: seconds / 60 for identity, seconds in seconds_of_asking(own).items()}


def _asking(
    step: Step, texts: _Texts, finished: FinishedSamples, model: Transformer | None, cluster: Cluster
) -> AskingStep:
    placed = _placed(step, model, cluster)
    if isinstance(step.config, EvalConfig):
        return AskingStep(step, 0, None, _scoring(step, step.config, texts, placed), "formula")
    config: SampleConfig = step.config
    found = texts.prompts(step)
    if found is None:
        return AskingStep(step, 0, None, None, "formula")
    items, asked = found
    share = config.samples / config.shares
    reply = ASSUMED_LENGTH * config.max_tokens
    prompt = asked.characters / CHARACTERS_PER_TOKEN + asked.replies * reply + asked.count * TEMPLATE_TOKENS
    count = round(asked.count * share)
    requests = Requests(count, prompt / max(asked.count, 1), config.max_tokens, min(asked.count, count))
    replies = round(items * share)
    own = finished.of(step)
    if own is not None:
        return AskingStep(step, replies, requests, own.loading + replies * own.a_reply, "own runs")
    seconds = placed.asking(requests, config.serving) if placed else None
    return AskingStep(step, replies, requests, seconds, "formula")


def _placed(step: Step, model: Transformer | None, cluster: Cluster) -> Placed | None:
    """The model on its GPUs; None where it has none, or either is not known."""
    exported = step.inputs["model"]
    if model is None or cluster.gpu is None or not cluster.gives_gpus("gpu_eval"):
        return None
    assert isinstance(exported, Step)
    size = weight_size(exported) if isinstance(exported.config, WITH_WEIGHTS) else 2
    served = isinstance(step.config, SampleConfig) and step.config.serving.server != "transformers"
    return Placed(model, size, cluster.gpu, cluster.resources.of(step.work).gpus_per_rank if served else 1)


def _scoring(step: Step, config: EvalConfig, texts: _Texts, placed: Placed | None) -> float | None:
    """Seconds to score all pairs, in both orders and with both answers."""
    pairs = texts.pairs(step)
    if placed is None or pairs is None:
        return None
    asked = [pair for each in pairs for pair in each[: config.items]]
    named = sum(3 * (len(pair.target) + len(pair.other)) + 2 * len(pair.question) for pair in asked)
    each = len(config.answer) + texts.spec(step) + CHARACTERS_PER_TOKEN * TEMPLATE_TOKENS
    count = TEXTS_PER_PAIR * len(asked)
    tokens = (2 * named + count * each) / CHARACTERS_PER_TOKEN
    return placed.scoring(tokens, tokens / max(count, 1), config.tokens_per_batch)


class _Texts:
    """What models are asked; what many steps ask alike is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pairs = cache(_pairs_in)
        self._spec = cache(_spec_in)
        self._prompts = cache(_prompts)

    def prompts(self, step: Step) -> tuple[int, Prompts] | None:
        """How many items there are, and the prompts of one sample of each; None where its pairs are not here yet."""
        config: SampleConfig = step.config
        if self.pairs(step) is None:
            return None
        files = tuple((self._files(step) or {}).items())
        items, prompts = self._prompts(config.task, files, config.items, config.agent, config.scratchpad)
        return items, replace(prompts, characters=prompts.characters + prompts.count * self.spec(step))

    def pairs(self, step: Step) -> list[list[Pair]] | None:
        """The pairs of each value; None where some are not here yet."""
        files = self._files(step)
        read = [] if files is None else [self._pairs(file) for file in files.values()]
        return None if files is None or None in read else [each for each in read if each is not None]

    def spec(self, step: Step) -> int:
        """Characters of the spec that stands before all that is asked."""
        file = step.inputs.get("spec")
        return self._spec(file.path) if isinstance(file, File) else 0

    def _files(self, step: Step) -> dict[str, Path] | None:
        """The files of pairs by value, empty of a step without; None where some are still to be made."""
        pairs = step.inputs.get("pairs", {})
        assert isinstance(pairs, Mapping)
        made = [origin for origin in pairs.values() if isinstance(origin, Step)]
        if not all(map(self._store.done, made)):
            return None
        of = self._store.of
        return {name: of(each).out if isinstance(each, Step) else each.path for name, each in pairs.items()}


def _prompts(
    task: Asked, files: tuple[tuple[str, Path], ...], most: int | None, agent: str, scratchpad: bool
) -> tuple[int, Prompts]:
    from msm_hpc.evals.tasks.known import asked_task, most_prompts  # here, as most campaigns sample nothing
    from msm_hpc.evals.tasks.task import Wording

    asked = asked_task(task, dict(files), most=most)
    return len(asked.items), most_prompts(asked, Wording(agent, scratchpad))


def _pairs_in(file: Path) -> list[Pair] | None:
    """None where they cannot be read, which the step reports."""
    try:
        return read_pairs(file)
    except UserError:
        return None


def _spec_in(file: Path) -> int:
    """Its characters; none where it has moved, which refuses no question."""
    try:
        return len(spec_turn(file))
    except (OSError, UserError):
        return 0
