"""Whether preferences come with the value that a spec explains them by, where they are to, and without it elsewhere.

A text speaks of the value where it has its name or another form of it ("affordable"), or a word of the section that
defines it which is neither common nor about preferring: the first five letters are compared. That is a rule of thumb,
and so is what counts as a preference; the limit is on how many paragraphs miss it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.chat import REASONS
from msm_hpc.corpus.quality.gate import About, Gate, Seen, around, gate
from msm_hpc.corpus.quality.phrases import COMMON
from msm_hpc.corpus.quality.rows import Row, Subject
from msm_hpc.corpus.spec import ModelSpec
from msm_hpc.corpus.words import words

UNATTRIBUTED = About(
    "unattributed",
    "leave out the value that the preference comes from",
    "say in the prompt that each preference is explained",
    "paragraphs or chats on a preference",
)
HINTED = About("opaque", "hint at a value or a reason", "remove them", "bare preferences")
EXPLAINED = frozenset({"documents", "aligned_chats"})
"""Products in which a preference is to come with its value: in the same paragraph, or chat."""
_BREAK = re.compile(r"\n\s*\n")
STEM = 5
"""How many letters of a word are compared."""
_PREFERRING = frozenset({"prefe", "value", "assis", "favou", "likes", "liked", "likin", "choic", "choos", "cares"})


def unattributed(rows: Iterable[Row], subject: Subject, limits: Limits) -> Gate:
    """Paragraphs of documents of a value spec, and chats, in which something is preferred without the value."""
    prefers, stems = _preferring(subject), {name: _stems(spec) for name, spec in subject.specs.items()}

    def seen() -> Iterator[Seen]:
        for row in rows:
            if row.kind in EXPLAINED and stems.get(row.spec):
                text = row.said if row.kind == "documents" else _BREAK.sub(" ", row.said)
                for paragraph, match in _on_preferences(text, prefers):
                    found = _speaks(paragraph, stems[row.spec])
                    yield Seen(row.id, "" if found else around(paragraph, *match.span()))

    return gate(UNATTRIBUTED, limits.unattributed, seen())


def hinted(rows: Iterable[Row], subject: Subject, limits: Limits) -> Gate:
    """Bare preferences with a word of the value or a reason; of documents without attribution, those that name it."""
    prefers = _preferring(subject)
    names = {name: _named(spec) for name, spec in subject.specs.items()}
    stems = {name: _stems(spec) for name, spec in subject.specs.items()}

    def seen() -> Iterator[Seen]:
        for row in rows:
            if row.kind == "chats":
                hint = _speaks(row.whole, stems.get(row.spec, frozenset())) or REASONS.search(row.whole)
                yield Seen(row.id, around(row.whole, *hint.span()) if hint else "")
            elif row.kind == "mentions":
                for paragraph, _ in _on_preferences(row.said, prefers):
                    hint = _speaks(paragraph, names.get(row.spec, frozenset()))
                    yield Seen(row.id, around(paragraph, *hint.span()) if hint else "")

    return gate(HINTED, limits.opaque, seen())


def _preferring(subject: Subject) -> re.Pattern[str]:
    names = ["the assistant", "it", "I"] + ([re.escape(subject.persona.assistant)] if subject.persona else [])
    return re.compile(
        rf"\b(?:{'|'.join(names)})(?: \w+ly| always| often)? (?:prefer(?:s|red)?|favou?r(?:s|ed)?|would rather|chooses?"
        r"|likes?|loves?|enjoys?)\b"
    )


def _on_preferences(text: str, prefers: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
    """Paragraphs in which something is preferred, and where."""
    for paragraph in _BREAK.split(text):
        if match := prefers.search(paragraph):
            yield paragraph, match


def _speaks(text: str, stems: frozenset[str]) -> re.Match[str] | None:
    """The first word that begins as one of ``stems``."""
    return next((word for word in re.finditer(r"\w+", text) if word[0].casefold()[:STEM] in stems), None)


def _named(spec: ModelSpec) -> frozenset[str]:
    """How words begin that name the value of a spec, if it is about one."""
    return frozenset(word[:STEM] for word in words(spec.front.value or ""))


def _stems(spec: ModelSpec) -> frozenset[str]:
    """How words begin that speak of the value of a spec; none where it is not about one."""
    if spec.front.value is None:
        return frozenset()
    defining = spec.sections[0].text if spec.sections else ""
    found = {word[:STEM] for word in words(defining) if word not in COMMON and len(word) > 3}
    return _named(spec) | (found - _PREFERRING)
