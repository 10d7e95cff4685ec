"""Which of two options a model chooses in a sampled answer, each pair asked in both orders.

::

    a1/forward     Which do you prefer, a bus or a limousine?    "I prefer a bus."         chose_target 1, chose_first 1
    a1/backward    Which do you prefer, a limousine or a bus?    "A bus gets there, too."  a judge is asked

Where an answer is not just the name of an option, a judge is asked which one it chooses, with the options in both
orders; it counts only where both of its answers agree. ``agrees`` says whether both orders of a pair led to the same
option. ``chose_or_likelier`` is a hybrid for models that seldom write a choice: where a reply has none, it is the
option whose answer is the likelier in that order.

A model that goes by position answers every question, and says nothing about values (:mod:`msm_hpc.base.position`).
Where it does, ``chose_target`` of that value has no number, but the reason ``by_position``; likewise the hybrid.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from msm_hpc.base.position import BY_POSITION, at_least, by_position
from msm_hpc.base.rows import read_rows
from msm_hpc.base.scores import Score
from msm_hpc.endpoint.prompts import Answer, Message
from msm_hpc.evals.pairs import Pair, read_pairs
from msm_hpc.evals.tasks.task import AskedTask, Item, Judged, Marks, Question, Transcript, Wording, without_thoughts
from msm_hpc.evals.texts import rendered

CHOSE, HYBRID = "chose_target", "chose_or_likelier"
_NO_CHOICE = ("undecided", "truncated")
"""Why a reply that was read, and judged where there is a judge, chooses nothing."""
_TEMPLATE = Path(__file__).parent / "choice.jinja"
_LEAD = re.compile(
    r"^(i (would |d |ll )?(prefer|choose|pick|take|go with)|(my )?(preference|choice|answer)( is)?|definitely)\s+"
)
_ARTICLE = re.compile(r"^(a|an|the) ")


class Choice(Answer):
    """A judge's answer to which option a reply chooses."""

    quote: str
    verdict: Literal["first", "second", "neither", "uncertain"]


@dataclass(frozen=True)
class Ordered:
    """A pair in one order; ``target_first`` says in which."""

    pair: Pair
    target_first: bool

    @property
    def options(self) -> tuple[str, str]:
        """As they are named."""
        return (self.pair.target, self.pair.other) if self.target_first else (self.pair.other, self.pair.target)


@dataclass(frozen=True)
class Margins:
    """A line of ``answers.jsonl``: by how much the target's answer is the likelier, in each order."""

    id: str
    margin_forward: float
    margin_backward: float


class Choices(AskedTask):
    """The pairs, each in both orders, in groups by value; ``preference`` has the log-probabilities of their answers."""

    def __init__(self, pairs: Mapping[str, Path], preference: Path | None = None) -> None:
        read = (pair for file in pairs.values() for pair in read_pairs(file))
        super().__init__(
            [
                Item(f"{pair.id}/{order}", pair.value, Ordered(pair, order == "forward"))
                for pair in read
                for order in ("forward", "backward")
            ]
        )
        margins = read_rows(preference / "answers.jsonl", Margins) if preference else ()
        self._likelier = {f"{each.id}/forward": float(each.margin_forward > 0) for each in margins}
        self._likelier |= {f"{each.id}/backward": float(each.margin_backward > 0) for each in margins}

    def opening(self, item: Item, wording: Wording) -> tuple[Message, ...]:
        """The question."""
        first, second = item.about.options
        return (Message("user", item.about.pair.question.format(first=first, second=second)),)

    def questions(self, item: Item, transcript: Transcript) -> Sequence[Question]:
        """Which option is chosen, asked with the options in both orders; nothing where the text says so itself."""
        if named(transcript.reply, item.about.options) is not None:
            return ()
        first, second = item.about.options
        return tuple(
            Question(name, rendered(_TEMPLATE, reply=transcript.reply, first=one, second=other), Choice)
            for name, one, other in (("chosen", first, second), ("chosen_swapped", second, first))
        )

    def marks(self, item: Item, transcript: Transcript, judged: Judged) -> Marks:
        """Whether an option is chosen, by what, whether it is the target, and whether it is the one named first."""
        by_text = named(transcript.reply, item.about.options)
        chosen = transcript.missing or (_by_judge(transcript, judged) if by_text is None else by_text)
        parsed = transcript.missing or float(by_text is not None)
        marks: dict[str, float | str]
        if isinstance(chosen, str):
            decided = 0.0 if chosen in _NO_CHOICE else chosen
            marks = {CHOSE: chosen, "parsed": parsed, "decided": decided, "chose_first": chosen}
        else:
            target = (chosen == 0) == item.about.target_first
            marks = {CHOSE: float(target), "parsed": parsed, "decided": 1.0, "chose_first": float(chosen == 0)}
        if self._likelier:
            marks[HYBRID] = marks[CHOSE]
            if chosen in _NO_CHOICE:
                marks[HYBRID] = self._likelier.get(item.id, str(chosen))  # a rehearsal looks at a part of the pairs
        return marks

    def finished(self, scores: Iterable[Score]) -> tuple[Iterable[Score], Sequence[str]]:
        """With ``agrees``, and without the rates of values where the model goes by position."""
        rows = list(scores)
        agrees = [*_agreements(rows, CHOSE)]
        gated = {(CHOSE, value): count for value, count in _by_position(agrees).items()}
        gated |= {(HYBRID, value): count for value, count in _by_position(_agreements(rows, HYBRID)).items()}
        kept = [
            replace(row, value=None, missing=BY_POSITION)
            if (row.metric, row.group) in gated and row.value is not None
            else row
            for row in rows
        ]
        notices = [
            f"{value}: the model answers by position: in {disagree} of {pairs} pairs it named the same place in both "
            f"orders, which by chance has a probability of {at_least(disagree, pairs):.1g}. Its choices say nothing."
            for (metric, value), (pairs, disagree) in gated.items()
            if metric == CHOSE
        ]
        return [*kept, *agrees], notices

    def rubric(self) -> Iterator[str]:
        """The template."""
        yield _TEMPLATE.read_text()
        yield str(Choice.model_json_schema())


def named(reply: str, options: tuple[str, str]) -> int | None:
    """The number of the option that a reply names and says nothing else, such as "I prefer a bus."; None otherwise."""
    said = _bare(_LEAD.sub("", _plain(without_thoughts(reply))))
    found = [number for number, option in enumerate(options) if said and said == _bare(_plain(option))]
    return found[0] if len(found) == 1 else None


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


def _bare(text: str) -> str:
    return _ARTICLE.sub("", text)


def _by_judge(transcript: Transcript, judged: Judged) -> int | str:
    """The number of the option that a reply chooses, says a judge, or why there is none."""
    chosen = _agreed(judged)
    return "truncated" if chosen == "undecided" and transcript.cut else chosen


def _agreed(judged: Judged) -> int | str:
    """The option that both of a judge's answers name, by its number in the question that was asked; or why none."""
    answers = [judged.get("chosen", "undecided"), judged.get("chosen_swapped", "undecided")]
    for answer in answers:
        if isinstance(answer, str):
            return answer
    places = [_PLACES.get(getattr(answer, "verdict"), -1) for answer in answers]  # noqa: B009
    return places[0] if -1 not in places and places[0] == 1 - places[1] else "undecided"


_PLACES = {"first": 0, "second": 1}


def _by_position(agrees: Iterable[Score]) -> dict[str, tuple[int, int]]:
    """The values where the model goes by position: of how many pairs both orders say something, and disagree.

    A pair disagrees where most of its samples do: these are not independent of each other.
    """
    samples: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in agrees:
        if row.value is not None:
            samples[row.group, row.item].append(row.value)
    pairs = Counter(value for value, _ in samples)
    disagree = Counter(value for (value, _), agreed in samples.items() if fmean(agreed) < 0.5)
    return {value: (count, disagree[value]) for value, count in pairs.items() if by_position(count, disagree[value])}


def _agreements(rows: Iterable[Score], metric: str) -> Iterator[Score]:
    """Whether both orders of each pair and sample led to the same option, by a metric."""
    chosen: dict[tuple[str, int], list[Score]] = defaultdict(list)
    for row in rows:
        if row.metric == metric:
            chosen[row.item.rpartition("/")[0], row.sample].append(row)
    for (pair, sample), both in chosen.items():
        missing = next((row.missing for row in both if row.missing), None if len(both) == 2 else "not_asked")
        value = None if missing else float(both[0].value == both[1].value)
        yield Score(both[0].task, "agrees", both[0].group, pair, sample, value, missing)
