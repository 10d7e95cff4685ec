"""The patterns stage: which patterns of reasoning there are in the replies of all models.

Of all replies, ``coded`` are read, as many of each model. Their reasons are labeled freely, grouped into the known
patterns and new ones, and each of these replies is classified by them; two patterns of one family that share more than
three quarters of the rarer one's replies, and at least three, are merged, unless the judge objects. Every reply of
every model is then classified by what is found here, in a score step of its own.

``out/patterns.json`` has the patterns, what was merged or why not, and the judge's agreement with itself: Cohen's kappa
of two samples of it on a part of the replies, by pattern.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json, write_json
from msm_hpc.base.notices import write_notices
from msm_hpc.base.rows import read_rows
from msm_hpc.config.evals import PatternsConfig, PatternsInputs
from msm_hpc.endpoint import Answer, Message, Prompt, Reply
from msm_hpc.endpoint.resuming import REPLIES as RESUMED
from msm_hpc.evals.checked import CheckedEngine, checked
from msm_hpc.evals.reasoning.patterns import (
    Canonical,
    Classified,
    Merged,
    Overlap,
    Pattern,
    Reason,
    Reasons,
    canonical_prompt,
    classify_prompt,
    merge_prompt,
    open_coding_prompt,
    overlaps,
    patterns,
)
from msm_hpc.evals.tasks.task import REPLIES, Transcript

FILE = "patterns.json"
REASONS_AT_ONCE = 150
TWICE = 100
"""Replies that two samples of the judge classify."""
TOGETHER = 3
"""Replies in which two patterns must both be before they can be merged: one that occurs once overlaps by chance."""
QUOTES = 6
TOKENS = 8192
"""The most tokens of one of the judge's answers, thoughts included."""

T = TypeVar("T", bound=Answer)


@dataclass(frozen=True)
class Merge:
    """Two patterns that overlapped: into which they were merged, or why they were not."""

    first: str
    second: str
    share: float
    into: str | None = None
    objection: str = ""


@dataclass(frozen=True)
class Agreement:
    """How far two samples of one judge agree; kappa is None where both give one verdict throughout."""

    pattern: str
    replies: int
    kappa: float | None


@dataclass(frozen=True)
class Search:
    """What was found.

    Attributes:
        coded: replies in which reasons were looked for.
        reasons: that were found in them.
        unassigned: those that fit no pattern.
        rejected: the judge's answers that could not be used, by reason.
    """

    judge: str
    prompts: str
    coded: int
    reasons: int
    unassigned: int
    patterns: tuple[Pattern, ...]
    merges: tuple[Merge, ...]
    agreement: tuple[Agreement, ...]
    rejected: Mapping[str, int]


_SEARCH = TypeAdapter(Search)


def run(config: PatternsConfig, inputs: PatternsInputs, out: Path) -> None:
    """Look for patterns in ``inputs.replies``.

    Raises:
        UserError: no model replied anything, or the judge cannot be asked or has not answered all.
    """
    texts = _taken(inputs.replies, config.coded)
    if not texts:
        raise UserError("no model has replied anything: there is no reasoning to look at; see the sample steps")
    found = asyncio.run(_searched(config, texts, out))
    write_json(out / FILE, asdict(found))
    known = [each.kappa for each in found.agreement if each.kappa is not None]
    kappa = f"{sum(known) / len(known):.2f}" if known else "undefined"
    write_notices(
        out,
        [
            f"Patterns of reasoning were found and counted by {config.judge.model}, with prompts of hash "
            f"{config.prompts}; its agreement with itself, in two samples, is a mean Cohen's kappa of {kappa}. No "
            "second judge was asked."
        ],
    )


def read_patterns(folder: Path) -> tuple[Pattern, ...]:
    """The patterns that were found."""
    return _SEARCH.validate_python(read_json(folder / FILE)).patterns


def _taken(replies: Mapping[str, Path], coded: int) -> dict[str, str]:
    """The texts in which patterns are looked for, by step and transcript: as many of each model, drawn by their ids."""
    texts: dict[str, str] = {}
    for number, (step, folder) in enumerate(sorted(replies.items())):
        share = coded * (number + 1) // len(replies) - coded * number // len(replies)
        rows = [each for each in read_rows(folder / REPLIES, Transcript) if each.missing is None and each.reply.strip()]
        rows.sort(key=lambda each: hashlib.sha256(each.id.encode()).digest())
        texts |= {f"{step}/{each.id}": each.reply for each in rows[:share]}
    return texts


@dataclass
class _Judge:
    """Asks a judge; what it cannot answer is counted."""

    engine: CheckedEngine
    rejected: Counter[str] = field(default_factory=Counter)

    async def all(
        self, asked: Mapping[str, str], answer: type[T], temperature: float = 0.0, sample: int = 0
    ) -> dict[str, T]:
        """The answers, by the names of what is asked."""
        prompts = [
            Prompt(
                messages=(Message("user", text),),
                max_tokens=TOKENS,
                temperature=temperature,
                sample=sample,
                answer=answer,
                about=name,
            )
            for name, text in asked.items()
        ]
        found: dict[str, T] = {}
        async for prompt, result in self.engine.ask(prompts):
            if isinstance(result, Reply):
                found[prompt.about] = answer.model_validate_json(result.text)
            else:
                self.rejected[result.reason] += 1
        self.engine.check()  # here, since all that follows builds on it
        return {name: found[name] for name in asked if name in found}

    async def one(self, text: str, answer: type[T]) -> T | None:
        """One answer."""
        return (await self.all({"": text}, answer)).get("")


async def _searched(config: PatternsConfig, texts: Mapping[str, str], out: Path) -> Search:
    async with checked(config.judge, out / RESUMED) as engine:
        judge = _Judge(engine)
        coded = await judge.all({name: open_coding_prompt(text) for name, text in texts.items()}, Reasons)
        reasons = [reason for each in coded.values() for reason in each.reasons]
        canonical, unassigned = await _canonical(judge, reasons)
        classified = await _classified(judge, texts, canonical)
        merged, merges = await _merged(judge, canonical, classified)
        part = dict(list(texts.items())[:TWICE])
        samples = [await _classified(judge, part, merged, 1.0, sample) for sample in (0, 1)]
    return Search(
        judge=config.judge.model,
        prompts=config.prompts,
        coded=len(coded),
        reasons=len(reasons),
        unassigned=unassigned,
        patterns=tuple(merged),
        merges=tuple(merges),
        agreement=tuple(_agreement(pattern.id, *samples) for pattern in merged),
        rejected=dict(judge.rejected),
    )


async def _canonical(judge: _Judge, reasons: Sequence[Reason]) -> tuple[list[Pattern], int]:
    """The known patterns and those into which the judge groups what they do not cover; and how many fit nowhere."""
    known = {pattern.id: pattern for pattern in patterns()}
    unassigned = 0
    for start in range(0, len(reasons), REASONS_AT_ONCE):
        some = reasons[start : start + REASONS_AT_ONCE]
        answer = await judge.one(canonical_prompt(some, tuple(known.values())), Canonical)
        if answer is None:
            unassigned += len(some)
            continue
        unassigned += len({number for number in answer.unassigned if number <= len(some)})
        for each in answer.patterns:
            name = _id(each.id)
            fields = each.model_dump(exclude={"reasons", "id"})
            known.setdefault(name, Pattern(id=name, **fields))
    return list(known.values()), unassigned


def _id(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "pattern"


async def _classified(
    judge: _Judge, texts: Mapping[str, str], among: Sequence[Pattern], temperature: float = 0.0, sample: int = 0
) -> dict[str, Classified]:
    asked = {name: classify_prompt(text, among) for name, text in texts.items()}
    return await judge.all(asked, Classified, temperature, sample)


async def _merged(
    judge: _Judge, among: Sequence[Pattern], classified: Mapping[str, Classified]
) -> tuple[list[Pattern], list[Merge]]:
    """The patterns after all merges, and what became of each pair that overlapped."""
    left = {pattern.id: pattern for pattern in among}
    present: dict[str, dict[str, str]] = {name: {} for name in left}  # by pattern the replies, with a quote of each
    for reply, answer in classified.items():
        for each in answer.patterns:
            if each.id in present and each.verdict == "present":
                present[each.id][reply] = each.quote
    merges: list[Merge] = []
    apart: set[tuple[str, str]] = set()
    while (pair := _next_pair(left, present, apart)) is not None:
        first, second = left[pair.first], left[pair.second]
        both = [name for name in present[first.id] if name in present[second.id]][:QUOTES]
        quotes = [present[pattern.id][name] for name in both for pattern in (first, second)]
        asked = await judge.one(merge_prompt(first, second, pair.share, quotes), Merged)
        if asked is None or asked.objection.strip():
            apart.add((pair.first, pair.second))
            why = asked.objection if asked else "the judge gave no answer that can be used"
            merges.append(Merge(pair.first, pair.second, pair.share, None, why))
            continue
        del left[first.id], left[second.id]
        name = _id(asked.id)
        name = first.id if name in left else name
        left[name] = Pattern(id=name, family=first.family, **asked.model_dump(exclude={"id", "objection"}))
        present[name] = present.pop(first.id) | present.pop(second.id)
        merges.append(Merge(pair.first, pair.second, pair.share, name))
    return list(left.values()), merges


def _next_pair(
    left: Mapping[str, Pattern], present: Mapping[str, Mapping[str, str]], apart: set[tuple[str, str]]
) -> Overlap | None:
    """The pair of one family that overlaps most, of those that are not to stay apart."""
    pairs = [
        pair
        for family in dict.fromkeys(pattern.family for pattern in left.values())
        for pair in overlaps({name: present[name].keys() for name in left if left[name].family == family})
        if (pair.first, pair.second) not in apart
        and len(present[pair.first].keys() & present[pair.second].keys()) >= TOGETHER
    ]
    return max(pairs, key=lambda pair: pair.share, default=None)


def _agreement(pattern: str, one: Mapping[str, Classified], other: Mapping[str, Classified]) -> Agreement:
    verdicts = [
        {name: each.verdict for name, answer in sample.items() for each in answer.patterns if each.id == pattern}
        for sample in (one, other)
    ]
    both = [(verdicts[0][name], verdicts[1][name]) for name in verdicts[0] if name in verdicts[1]]
    return Agreement(pattern, len(both), kappa(both))


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two raters: agreement beyond what their own frequencies give by chance."""
    if not pairs:
        return None
    agreed = sum(first == second for first, second in pairs) / len(pairs)
    counts = [Counter(each) for each in zip(*pairs, strict=True)]
    by_chance = sum(counts[0][verdict] * counts[1][verdict] for verdict in counts[0]) / len(pairs) ** 2
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def rubric() -> tuple[str, ...]:
    """All that the judge is asked with, but for replies and what it has found in them."""
    first, second, *_ = patterns()
    schemas = (str(answer.model_json_schema()) for answer in (Reasons, Canonical, Classified, Merged))
    return (
        *(open_coding_prompt(""), canonical_prompt((), patterns()), classify_prompt("", patterns())),
        *(merge_prompt(first, second, 0, ()), *schemas),
    )
