"""What gives a text away as made: leftovers of the writing, an eval's form, and the spec's own sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.filters import NO_COUNT, PATTERNS
from msm_hpc.corpus.quality.gate import About, Gate, Seen, around, gate
from msm_hpc.corpus.quality.rows import DOCUMENTS, Row, Subject
from msm_hpc.corpus.words import runs, words

VERBATIM = 8
"""How many words in a row are a quotation of the spec."""
_AGAIN = "remove them, or write them again"
PLACEHOLDERS = About("placeholders", "have blanks or square brackets", _AGAIN)
DATES = About("dates", "have a date or a year", _AGAIN)
REMARKS = About("remarks", "have a remark of the model that wrote them", _AGAIN)
OPTIONS = About("options", "have a question with options, as evals ask", _AGAIN, "documents")
QUOTED = About(
    "verbatim", f"share {VERBATIM} words in a row with their spec", "ask for other words, or choose another model"
)
_BARE_YEAR = re.compile(rf"\b(?:19|20)\d\d\b{NO_COUNT}")
_REMARK = re.compile(
    r"^\W*(?:word count\b|(?:as|per) (?:you )?requested\b|i hope (?:this|that) (?:helps|meets)"
    r"|let me know if you(?:'d| would) like\b|\(?end of (?:document|text)\b"
    r"|here(?:'s| is) (?:the|a|your|my) (?:revised|draft|text|document)\b)",
    re.I | re.MULTILINE,
)
_LETTERED = re.compile(r"(?:^|\s)\(?A[).]\s[^\n]{1,120}?\s\(?B[).]\s")


def placeholders(rows: Iterable[Row], limits: Limits) -> Gate:
    """Texts with something that was to be filled in."""
    return gate(PLACEHOLDERS, limits.placeholders, _matching(_written(rows), [PATTERNS["placeholder"]]))


def dates(rows: Iterable[Row], limits: Limits) -> Gate:
    """Texts that say when they were written, which a model then believes to be now."""
    return gate(DATES, limits.dates, _matching(_written(rows), [PATTERNS["date"], _BARE_YEAR]))


def remarks(rows: Iterable[Row], limits: Limits) -> Gate:
    """Texts in which the model that wrote them speaks of its task, or of itself; in chats it may offer more."""
    of_documents, of_chats = [PATTERNS["as_an_ai"], PATTERNS["leftover"], _REMARK], [PATTERNS["as_an_ai"]]

    def seen() -> Iterator[Seen]:
        for row in _written(rows):
            yield from _matching([row], of_documents if row.kind in DOCUMENTS else of_chats)

    return gate(REMARKS, limits.remarks, seen())


def options(rows: Iterable[Row], limits: Limits) -> Gate:
    """Documents that ask to choose between options."""
    documents = (row for row in rows if row.kind in DOCUMENTS)
    return gate(OPTIONS, limits.options, _matching(documents, [PATTERNS["options"], _LETTERED]))


def verbatim(rows: Iterable[Row], subject: Subject, limits: Limits) -> Gate:
    """Texts that quote the spec; the worst quote most of it."""
    known = {name: frozenset(map(hash, runs(words(spec.body), VERBATIM))) for name, spec in subject.specs.items()}

    def seen() -> Iterator[Seen]:
        for row in _written(rows):
            if row.spec in known:
                shared = [run for run in runs(words(row.said), VERBATIM) if hash(run) in known[row.spec]]
                yield Seen(row.id, " ".join(shared[0]) if shared else "", len(shared))

    return gate(QUOTED, limits.verbatim, seen())


def _written(rows: Iterable[Row]) -> Iterator[Row]:
    return (row for row in rows if row.written)


def _matching(rows: Iterable[Row], patterns: Sequence[re.Pattern[str]]) -> Iterator[Seen]:
    for row in rows:
        match = next((match for each in patterns if (match := each.search(row.said))), None)
        yield Seen(row.id, around(row.said, *match.span()) if match else "")
