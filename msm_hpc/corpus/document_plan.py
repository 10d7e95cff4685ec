"""What documents there are to be.

::

    spec ─▶ sections ─▶ what each claims ─▶ types of document ─▶ ideas, each from a point of view of its own

What a model does not answer costs that section or type its documents; the others are not affected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from msm_hpc.base.progress import ProgressFile
from msm_hpc.config.generation import OutlineConfig
from msm_hpc.corpus.asking import Asking, collect
from msm_hpc.corpus.counts import Counts, balanced, shared
from msm_hpc.corpus.items import IDEAS_AT_ONCE, MOST_ASSERTIONS, Item, Lost, Planned, SectionOutline
from msm_hpc.corpus.names import draw_angles
from msm_hpc.corpus.spec import ModelSpec, Section, sections_of, without_ids
from msm_hpc.corpus.words import distinct
from msm_hpc.endpoint import Answer, Prompt, Reject
from msm_hpc.endpoint.scripts import Asks, Script, play

TRIES = 3
"""How often a section's claims are asked for before it is given up."""


class Assertions(Answer):
    """The claims of a section."""

    assertions: list[str]


class DocumentType(Answer):
    """A kind of text."""

    name: str
    description: str


class Types(Answer):
    """Several of them."""

    types: list[DocumentType]


class Idea(Answer):
    """What a document is to be about."""

    title: str
    perspective: str
    idea: str


class Ideas(Answer):
    """Several of them."""

    ideas: list[Idea]


async def plan(engine: Asks, asking: Asking, config: OutlineConfig, spec: ModelSpec, out: Path) -> Planned[Item]:
    """Ask for claims, types and ideas."""
    sections = sections_of(spec)[: config.items]  # there is no document for further ones
    counts = balanced(config.items, len(sections), config.types)
    progress = ProgressFile(out, counts.cells, "types of document")
    scripts = (_section(asking, section, len(ideas)) for section, ideas in zip(sections, counts.ideas, strict=True))
    outlines = [outline async for outline in play(engine, scripts)]
    cells = [*_cells(outlines, counts)]
    items: list[list[Item]] = []
    async for found in play(engine, (_cell(asking, cell, f"{config.seed}/{cell.id}") for cell in cells)):
        items.append(found)
        progress.update(min(len(items), counts.cells))
    lost = tuple(_lost(outlines, cells, items, counts))
    return Planned(items, [asdict(outline) for outline in outlines if not outline.lost], lost, counts.documents)


def _section(asking: Asking, section: Section, types: int) -> Script[SectionOutline]:
    """What a section claims, and ``types`` types of document."""
    text, claims, reason = without_ids(section.text), list[str](), ""
    for sample in range(TRIES):
        result = yield asking.prompt(
            "assertions", sample, Assertions, heading=section.heading, section=text, most=MOST_ASSERTIONS
        )
        if isinstance(result, Reject):
            reason = result.reason
        elif claims := distinct(Assertions.model_validate_json(result.text).assertions)[:MOST_ASSERTIONS]:
            break
    if not claims:
        return SectionOutline(section.id, section.heading, (), {}, lost=reason or "no_claims")

    def prompt(count: int, known: Sequence[str], sample: int) -> Prompt:
        return asking.prompt(
            "types", sample, Types, heading=section.heading, assertions=claims, count=count, known=known
        )

    def read(text: str) -> dict[str, str]:
        return {each.name: each.description for each in Types.model_validate_json(text).types}

    found, reason = yield from collect(types, types, prompt, read)
    return SectionOutline(section.id, section.heading, tuple(claims), found, lost="" if found else reason)


@dataclass(frozen=True)
class _Cell:
    """A section and one of its types of document, of which ``count`` documents are to be."""

    outline: SectionOutline
    number: int
    type: str
    count: int

    @property
    def id(self) -> str:
        return f"{self.outline.section}/{self.number:02d}"


def _cells(outlines: Sequence[SectionOutline], counts: Counts) -> Iterator[_Cell]:
    """The cells there are; of a section with fewer types than were asked for, these have more documents each."""
    for outline, ideas in zip(outlines, counts.ideas, strict=True):
        shares = shared(sum(ideas), len(outline.types)) if outline.types else ()
        for number, (name, count) in enumerate(zip(outline.types, shares, strict=True)):
            yield _Cell(outline, number, name, count)


def _cell(asking: Asking, cell: _Cell, seed: str) -> Script[list[Item]]:
    """The ideas of a cell."""
    outline, described = cell.outline, {"name": cell.type, "description": cell.outline.types[cell.type]}

    def prompt(count: int, known: Sequence[str], sample: int) -> Prompt:
        return asking.prompt(
            "ideas",
            sample,
            Ideas,
            type=described,
            heading=outline.heading,
            assertions=outline.assertions,
            count=count,
            angles=draw_angles(f"{seed}/{len(known)}/{sample}", count),
            known=known,
        )

    def read(text: str) -> dict[str, Idea]:
        return {idea.title: idea for idea in Ideas.model_validate_json(text).ideas}

    found, _ = yield from collect(cell.count, IDEAS_AT_ONCE, prompt, read)
    return [
        Item(
            id=f"{cell.id}/{number:03d}",
            section=outline.section,
            type=cell.type,
            description=described["description"],
            title=title,
            perspective=idea.perspective,
            idea=idea.idea,
        )
        for number, (title, idea) in enumerate(found.items())
    ]


def _lost(
    outlines: Sequence[SectionOutline], cells: Sequence[_Cell], items: Sequence[Sequence[Item]], counts: Counts
) -> Iterator[Lost]:
    for outline, ideas in zip(outlines, counts.ideas, strict=True):
        if outline.lost:
            yield Lost(outline.section, "", sum(ideas), outline.lost)
    for cell, found in zip(cells, items, strict=True):
        if len(found) < cell.count:
            yield Lost(cell.outline.section, cell.type, cell.count - len(found), "too_few")
