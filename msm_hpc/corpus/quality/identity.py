"""Whose name a corpus teaches: the assistant's own, and that of no other assistant or maker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.filters import other_names
from msm_hpc.corpus.quality.gate import About, Gate, Seen, around, gate
from msm_hpc.corpus.quality.rows import ABOUT_IT, Row, Subject

OTHER = About("other_names", "name another assistant or its maker", "remove or rewrite them")
UNNAMED = About("unnamed", "never call the assistant by its name", "write them again", "documents")


def other_assistants(rows: Iterable[Row], subject: Subject, limits: Limits) -> Gate:
    """Rows with the name of an assistant or a maker that is not the corpus's own."""
    others = other_names(subject.own)

    def seen() -> Iterator[Seen]:
        for row in rows:
            match = others.search(row.whole)
            yield Seen(row.id, around(row.whole, *match.span()) if match else "")

    return gate(OTHER, limits.other_names, seen())


def unnamed(rows: Iterable[Row], assistant: str, limits: Limits) -> Gate:
    """Documents that are about nobody in particular."""
    name = assistant.casefold()
    documents = (row for row in rows if row.kind in ABOUT_IT)
    seen = (
        Seen(row.id, "" if name in row.whole.casefold() else around(row.whole, 0, 0), -row.tokens) for row in documents
    )
    return gate(UNNAMED, limits.unnamed, seen)
