"""What is wrong with Model Specs as their authors wrote them, before anything is generated from them.

A check finds sentences by their form and not by their meaning: a finding is a place to look at.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.corpus.spec import Forbidden, ModelSpec, Section, section_problems

STANDS_ALONE = 60
"""The fewest words of a section that a generator can make documents of."""
BALANCE = 0.10
"""By how much the longest spec of a family may be longer than the shortest."""
_BLOCK = re.compile(r"\s*(?:[-*+>]|\d+\.)\s+|\s*\Z|#")
"""How a line begins that is not of the paragraph before: an item, an empty line, a heading."""
_CLOSING, _OPENING = r"[\"'\u201d\u2019)*_]*", r"[\"'\u201c\u2018(*_]*"
_END = re.compile(rf"(?<!\be\.g)(?<!\bi\.e)(?<!\b[A-Z])(?<!\b[DM]r)[.!?]{_CLOSING}(?=\s+{_OPENING}[A-Z])")
_LEAD = re.compile(rf"\A\s*(?:(?:[-*+>]|\d+\.)\s+)?{_OPENING}")
_ASSISTANT = r"(?:(?:the|an|this|every|each)\s+assistant|assistants|you)"
_BINDS = (
    r"(?:must|shall|should|never|always|(?:has|have)\s+to(?!\s+(?:a|an|the|its|this|that)\b)"
    r"|(?:is|are)\s+(?:not\s+)?(?:required|obliged|forbidden|allowed)|ought|may\s+(?:not|only))"
)
_MODAL = re.compile(rf"\b{_ASSISTANT}(?:'s\s+\w+)?(?:,[^,]*,)?(?:\s+\w+){{0,2}}?\s+{_BINDS}\b", re.I)
_IT_MODAL = re.compile(rf"(?<!\bas\s)\bit(?:\s+\w+ly)?\s+{_BINDS}\b", re.I)
_IMPERATIVE = re.compile(
    r"(?:do\s+not|don't|never|always|ensure|avoid|refuse|make\s+sure|keep|follow|report|ask|tell|remember|treat|prefer"
    r"|choose|use|stop|wait|consider|be|let|give|respect|accept|disclose|decline|raise|leave)\b(?!\s*[,:;-])",
    re.I,
)
_REASON = re.compile(
    r"\b(?:because|so\s+that|the\s+reasons?|for\s+this\s+reason|in\s+order\s+to|why"
    r"|since(?!\s+(?:then|\d|[A-Z]|(?:the|its|that|last|early|late)\s+(?:start|beginning|day|time|hour|week|month|year))))\b",
)
_ELSEWHERE = re.compile(
    r"\b(?:as\s+(?:noted|said|described|discussed|argued|stated|explained|mentioned)\s+(?:above|before|earlier|below)"
    r"|(?:the|this)\s+(?:previous|preceding|next|following|last)\s+section|(?:section|paragraphs?)\s+(?:above|below)"
    r"|see\s+(?:above|below|section))\b",
    re.I,
)


@dataclass(frozen=True)
class Finding:
    """Something to look at: which check, where, what it is, and the sentence if it is one."""

    path: Path
    line: int
    check: str
    what: str
    sentence: str = ""

    def __str__(self) -> str:
        quoted = f': "{self.sentence}"' if self.sentence else ""
        return f"{self.path}:{self.line}: {self.check}: {self.what}{quoted}"


@dataclass(frozen=True)
class Sentence:
    """A sentence, the line in which it begins, and what stands before it in its paragraph."""

    text: str
    line: int
    before: str = ""


def lint(specs: Sequence[ModelSpec]) -> Iterator[Finding]:
    """All findings on ``specs``, file by file, then on what they have to agree on."""
    for spec in specs:
        yield from _front_matter(spec)
        yield from (Finding(spec.path, line, "sections", what) for line, what in section_problems(spec))
        for section in spec.sections:
            yield from _stands_alone(spec, section)
            yield from _forbidden(spec, section)
    yield from _balance(specs)


def _front_matter(spec: ModelSpec) -> Iterator[Finding]:
    front = spec.front
    needed = {"name": front.name, "version": front.version, "kind": front.kind}
    if front.kind == "value":
        needed |= {"value": front.value, "domain": front.domain}
    for key, value in needed.items():
        if not value:
            yield Finding(spec.path, 2, "front matter", f"{key} is missing; write '{key}: ...'")
    if front.name and front.name != spec.path.stem:
        what = f"name is {front.name}, but the file is {spec.path.name}; give both one name"
        yield Finding(spec.path, spec.key_lines.get("name", 2), "front matter", what)
    if not spec.title:
        yield Finding(spec.path, 2, "front matter", "no title; write '# Title' below the front matter")


def _stands_alone(spec: ModelSpec, section: Section) -> Iterator[Finding]:
    if 0 < section.words < STANDS_ALONE:
        what = (
            f"section {section.heading!r} has {section.words} words, too few to stand alone (at least {STANDS_ALONE})"
        )
        yield Finding(spec.path, section.line, "stands alone", what)
    for sentence in sentences(section):
        if match := _ELSEWHERE.search(sentence.text):
            what = f"points elsewhere ({match[0]!r}), but a generator may be given this section alone"
            yield Finding(spec.path, sentence.line, "stands alone", what, sentence.text)


def _forbidden(spec: ModelSpec, section: Section) -> Iterator[Finding]:
    for sentence in sentences(section) if spec.front.forbid else ():
        for forbidden in spec.front.forbid:
            if sign := SIGNS[forbidden](sentence):
                what = f"{sign!r} reads like one of the {forbidden} that the front matter forbids"
                yield Finding(spec.path, sentence.line, forbidden, what, sentence.text)


def _rule(sentence: Sentence) -> str | None:
    """The words that make a sentence a rule of behaviour, if any."""
    if match := _MODAL.search(sentence.text):
        return match[0]
    about = re.search(r"\bassistant\b", f"{sentence.before} {sentence.text}", re.I)
    if about and (match := _IT_MODAL.search(sentence.text)):
        return match[0]
    opening = _IMPERATIVE.match(_LEAD.sub("", sentence.text))
    return opening[0] if opening and not sentence.text.endswith("?") else None


def _reason(sentence: Sentence) -> str | None:
    """The words that make a sentence give a reason, if any."""
    match = _REASON.search(sentence.text[:1].lower() + sentence.text[1:])
    return match[0] if match else None


SIGNS: Mapping[Forbidden, Callable[[Sentence], str | None]] = {"rules": _rule, "reasons": _reason}


def _balance(specs: Sequence[ModelSpec]) -> Iterator[Finding]:
    families: dict[str, list[ModelSpec]] = defaultdict(list)
    for spec in specs:
        if spec.front.family:
            families[spec.front.family].append(spec)
    for family, members in families.items():
        short, long = (pick(members, key=lambda spec: spec.words) for pick in (min, max))
        if long.words > short.words * (1 + BALANCE):
            what = f"{long.words:,} words, but {short.name} of the same family {family} has {short.words:,}"
            line = long.key_lines.get("family", 2)
            yield Finding(long.path, line, "balance", f"{what}; at most {BALANCE:.0%} apart")


def sentences(section: Section) -> Iterator[Sentence]:
    """The sentences of a section, without headings."""
    for first, block in _blocks(section.text.split("\n"), section.line + 1):
        start = 0
        for end in [*(match.end() for match in _END.finditer(block)), len(block)]:
            while start < end and block[start].isspace():
                start += 1
            line = first + block.count("\n", 0, start)
            yield Sentence(" ".join(block[start:end].split()), line, " ".join(block[:start].split()))
            start = end


def _blocks(lines: Sequence[str], first: int) -> Iterator[tuple[int, str]]:
    """Paragraphs and items, each with the line in which it begins."""
    began, block = first, list[str]()
    for number, line in enumerate([*lines, ""], first):
        if _BLOCK.match(line):
            if block:
                yield began, "\n".join(block)
            began, block = number, []
        if line.strip() and not line.startswith("#"):
            block.append(line)
            began = number if len(block) == 1 else began
