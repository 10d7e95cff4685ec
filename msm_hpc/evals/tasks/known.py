"""The tasks by name, and hashes of all that they ask models and judges: a change of words is a change of results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from msm_hpc.base.rows import read_rows
from msm_hpc.config.evals import Asked, Scored, ScoreInputs
from msm_hpc.evals.reasoning import search
from msm_hpc.evals.reasoning.patterns import patterns
from msm_hpc.evals.tasks.agentic import Agentic
from msm_hpc.evals.tasks.choice import Choices
from msm_hpc.evals.tasks.formats import Formats
from msm_hpc.evals.tasks.open_qa import OpenQa
from msm_hpc.evals.tasks.reasoning import Reasoning
from msm_hpc.evals.tasks.task import ITEMS, AskedTask, Item, Task, Wording, a_reply, firsts, opened
from msm_hpc.evals.texts import read_spec_text

_ASKED: Mapping[Asked, Callable[[Mapping[str, Path], ScoreInputs | None], AskedTask]] = {
    "agentic": lambda pairs, scored: Agentic(in_episodes=False),
    "episodes": lambda pairs, scored: Agentic(in_episodes=True),
    "open_qa": lambda pairs, scored: OpenQa(read_spec_text(scored.spec) if scored and scored.spec else ""),
    "choice": lambda pairs, scored: Choices(pairs, scored.preference if scored else None),
    "formats": lambda pairs, scored: Formats(),
}


def asked_task(
    name: Asked, pairs: Mapping[str, Path], scored: ScoreInputs | None = None, most: int | None = None
) -> AskedTask:
    """A task for which models are asked ``most`` items; ``scored`` is what replies are scored by, where they are."""
    task = _ASKED[name](pairs, scored)
    if most is not None:
        task.items = firsts(task.items, most)
    return task


def scored_task(name: Scored, inputs: ScoreInputs, most: int | None = None) -> Task:
    """The task that scores replies to ``most`` items.

    Raises:
        UserError: pairs, a spec, or the items of the replies cannot be read.
    """
    if name != "reasoning":
        return asked_task(name, inputs.pairs, inputs, most)
    assert inputs.patterns is not None, "the graph gives it to every reasoning task"
    return Reasoning(read_rows(inputs.replies / ITEMS, Item), search.read_patterns(inputs.patterns))


@cache
def hash_of_asked(name: Asked, agent: str, scratchpad: bool) -> str:
    """A short hash of all that models are asked, but for the user's own pairs and specs."""
    task, wording = asked_task(name, {}), Wording(agent, scratchpad)
    turns = (each for item in task.items for each in (*opened(task, item, wording), *task.later(item, wording)))
    return _hash(f"{each.role}: {each.content}" for each in turns)


@cache
def hash_of_judged(name: Scored) -> str:
    """A short hash of all that judges are asked, but for replies, pairs, specs and patterns that were found."""
    return _hash((Reasoning([Item("", "")], ()) if name == "reasoning" else asked_task(name, {})).rubric())


@dataclass(frozen=True)
class Prompts:
    """So many prompts.

    Attributes:
        characters: of all of them, but for the replies that they hold.
        replies: how many they hold in all.
    """

    count: int
    characters: int
    replies: int


def most_prompts(task: AskedTask, wording: Wording) -> Prompts:
    """The most prompts of one sample of each item: a later turn's holds all before it."""
    count = characters = replies = 0
    for item in task.items:
        begins = [*opened(task, item, wording)]
        for turn, later in enumerate(((), *((each,) for each in task.later(item, wording)))):
            begins += later
            count, replies = count + 1, replies + turn
            characters += sum(len(each.content) for each in begins)
    return Prompts(count, characters, replies)


@cache
def most_judgements(name: Scored, asked: Asked, most: int | None = None) -> Prompts:
    """What a judge is asked about one sample of ``most`` items of ``asked``, a spec left out; of own pairs nothing."""
    items = asked_task(asked, {}, most=most).items
    task = Reasoning(items, patterns()) if name == "reasoning" else asked_task(name, {})
    texts = [len(each.text) for item in items for each in task.questions(item, a_reply(item))]
    return Prompts(len(texts), sum(texts), len(texts))


@cache
def hash_of_search() -> str:
    """A short hash of all that the judge is asked in a search for patterns."""
    return _hash(search.rubric())


def _hash(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]
