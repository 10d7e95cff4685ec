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
from msm_hpc.corpus.quality.rows import OPAQUE, Row, Subject
from msm_hpc.corpus.quality.words import COMMON, words
from msm_hpc.corpus.spec import ModelSpec

UNATTRIBUTED = About(
    "unattributed",
    "leave out the value that the preference comes from",
    "say in the prompt that each preference is explained",
    "paragraphs on a preference",
)
HINTED = About("opaque", "hint at a value or a reason", "remove them", "bare preferences")
STEM = 5
"""How many letters of a word are compared."""
_PREFERRING = frozenset({"prefer", "value", "assist", "favou", "likes", "liked", "liking", "choice", "choos", "cares"})


def unattributed(rows: Iterable[Row], subject: Subject, limits: Limits) -> Gate:
    """Paragraphs of documents of a value spec in which the assistant prefers something, and nothing says why."""
    names = ["the assistant", "it", "I"] + ([re.escape(subject.persona.assistant)] if subject.persona else [])
    prefers = re.compile(
        rf"\b(?:{'|'.join(names)})(?: \w+ly| always| often)? (?:prefer(?:s|red)?|favou?r(?:s|ed)?|would rather|chooses?"
        r"|likes?|loves?|enjoys?)\b"
    )
    stems = {name: _stems(spec) for name, spec in subject.specs.items()}

    def seen() -> Iterator[Seen]:
        for row in rows:
            if row.kind == "documents" and stems.get(row.spec):
                for paragraph in re.split(r"\n\s*\n", row.said):
                    if match := prefers.search(paragraph):
                        named = any(word[:STEM] in stems[row.spec] for word in words(paragraph))
                        yield Seen(row.id, "" if named else around(paragraph, *match.span()))

    return gate(UNATTRIBUTED, limits.unattributed, seen())


def hinted(rows: Iterable[Row], subject: Subject, limits: Limits) -> Gate:
    """Rows that are to give no reason, and have a word of the value, or in a chat of any reason."""
    stems = {name: _stems(spec) for name, spec in subject.specs.items()}

    def seen() -> Iterator[Seen]:
        for row in rows:
            if row.kind in OPAQUE:
                of_value = stems.get(row.spec, frozenset())
                hint = next(
                    (match for match in re.finditer(r"\w+", row.whole) if match[0].casefold()[:STEM] in of_value), None
                )
                if hint is None and row.kind == "chats":
                    hint = REASONS.search(row.whole)
                yield Seen(row.id, around(row.whole, *hint.span()) if hint else "")

    return gate(HINTED, limits.opaque, seen())


def _stems(spec: ModelSpec) -> frozenset[str]:
    """How words begin that speak of the value of a spec; none where it is not about one."""
    if spec.front.value is None:
        return frozenset()
    defining = spec.sections[0].text if spec.sections else ""
    found = {word[:STEM] for word in words(defining) if word not in COMMON and len(word) > 3}
    return frozenset({word[:STEM] for word in words(spec.front.value)} | found - {word[:STEM] for word in _PREFERRING})
