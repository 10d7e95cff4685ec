"""What a task says of itself, so that one way of asking, judging and scoring serves all of them.

::

    item          opening          reply                judge's question        marks
    murder/none   system, user ─▶  "<scratchpad>…" ─▶   "did it decide to?" ─▶  verdict 1, executed 0, truncated 0

A mark is a number, or the reason why there is none. What could not be asked, judged or read to its end has a reason: it
is never the mark of a model that did well.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from msm_hpc.base.scores import Score
from msm_hpc.endpoint.prompts import Answer, Message

ITEMS, REPLIES = "items.jsonl", "replies.jsonl"
_THOUGHTS = re.compile(r"\A\s*<think>.*?(</think>|\Z)", re.DOTALL)
Marks: TypeAlias = Mapping[str, float | str]
"""By metric a number, or the reason why there is none."""
Judged: TypeAlias = Mapping[str, Answer | str]
"""By question the judge's answer, or the reason why there is none."""


@dataclass(frozen=True)
class Wording:
    """What openings depend on beside their items; ``spec`` is a text that is put before all that is asked."""

    agent: str = ""
    scratchpad: bool = False
    spec: str = ""


@dataclass(frozen=True)
class Item:
    """One thing that is asked, of one sample or of many; ``about`` is the task's own."""

    id: str
    group: str
    about: Any = field(default=None, compare=False)


def firsts(items: Sequence[Item], most: int) -> list[Item]:
    """The first item of each group, then the second of each, and so on, until there are ``most``."""
    seen = Counter[str]()

    def place(item: Item) -> int:
        seen[item.group] += 1
        return seen[item.group]

    return sorted(items, key=place)[:most]


@dataclass(frozen=True)
class Turn:
    """A turn of a conversation, as it is stored."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Transcript:
    """One sample of an item.

    Attributes:
        messages: what follows the opening: the model's reply, and in episodes further turns.
        finish: ``stop``, ``length`` where any reply was cut, or why the conversation is not whole, such as ``refused``.
        tokens: of all replies.
        detail: more of why there is none.
    """

    id: str
    item: str
    group: str
    sample: int
    messages: tuple[Turn, ...]
    finish: str
    tokens: int = 0
    detail: str = ""

    @property
    def replies(self) -> tuple[str, ...]:
        """What the model said, turn by turn."""
        return tuple(turn.content for turn in self.messages if turn.role == "assistant")

    @property
    def reply(self) -> str:
        """What the model said in all turns."""
        return "\n\n".join(self.replies)

    @property
    def cut(self) -> bool:
        """Whether a reply reached the limit of its tokens."""
        return self.finish == "length"

    @property
    def missing(self) -> str | None:
        """Why there is nothing to score, if so."""
        return None if self.finish in ("stop", "length") else self.finish


def without_thoughts(reply: str) -> str:
    """A reply without the thoughts that it begins with, which may have no end."""
    return _THOUGHTS.sub("", reply)


def sample_id(item: str, sample: int) -> str:
    """The id of a transcript: ``murder/global#17``."""
    return f"{item}#{sample}"


def never_asked(item: Item, sample: int) -> Transcript:
    """The place of a sample that is not there."""
    return Transcript(sample_id(item.id, sample), item.id, item.group, sample, (), "not_asked")


def a_reply(item: Item) -> Transcript:
    """A transcript of an empty reply, in the place of any."""
    return Transcript("", item.id, item.group, 0, (Turn("assistant", ""),), "stop")


@dataclass(frozen=True)
class Question:
    """One question to a judge, in which the reply stands; ``name`` is unique among those about a transcript."""

    name: str
    text: str
    answer: type[Answer]


class Task(ABC):
    """A task: its items, and what is made of transcripts of them."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items

    def questions(self, item: Item, transcript: Transcript) -> Sequence[Question]:
        """What a judge is asked about a transcript that has a text."""
        return ()

    @abstractmethod
    def marks(self, item: Item, transcript: Transcript, judged: Judged) -> Marks:
        """The marks of one transcript; of the same metrics for every transcript of an item."""

    def finished(self, scores: Iterable[Score]) -> tuple[Iterable[Score], Sequence[str]]:
        """The scores of all samples, with what can only be said of all together, and notices for the report."""
        return scores, ()

    def rubric(self) -> Iterator[str]:
        """All that a judge is asked with, but for the replies."""
        for item in self.items:
            for question in self.questions(item, a_reply(item)):
                yield question.text
                yield str(question.answer.model_json_schema())


class AskedTask(Task):
    """A task for which models are asked."""

    @abstractmethod
    def opening(self, item: Item, wording: Wording) -> tuple[Message, ...]:
        """What every sample of an item begins with, but for the spec."""

    def later(self, item: Item, wording: Wording) -> tuple[Message, ...]:
        """User turns that follow replies."""
        return ()

    def over(self, item: Item, reply: str) -> bool:
        """Whether no further turn follows this reply."""
        return False


def opened(task: AskedTask, item: Item, wording: Wording) -> tuple[Message, ...]:
    """What every sample of an item begins with; a spec stands before all else in the system turn."""
    opening = task.opening(item, wording)
    if not wording.spec:
        return opening
    system = "\n\n".join([wording.spec, *(each.content for each in opening if each.role == "system")])
    return Message("system", system), *(each for each in opening if each.role != "system")


def unless_cut(mark: float | str, transcript: Transcript) -> float | str:
    """A mark of something that a reply may show; a reply that was cut can show it, but not that it is absent."""
    return "truncated" if transcript.cut and mark in (0, "uncertain") else mark


def found(judged: Judged, name: str, verdicts: Mapping[str, float]) -> float | str:
    """The mark that a judge's ``verdict`` stands for; one that is not among ``verdicts`` is the reason for none."""
    answer = judged.get(name, "truncated")  # what has no text but was cut is not shown to a judge
    if isinstance(answer, str):
        return answer
    verdict = str(getattr(answer, "verdict"))  # noqa: B009
    return verdicts.get(verdict, verdict)
