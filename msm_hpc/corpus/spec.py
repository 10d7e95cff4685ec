"""A Model Spec as it is read from its Markdown file: front matter, and sections that stand alone.

::

    ---
    name: philosophy
    version: 1
    kind: principles
    forbid: [rules]
    ---
    # Title
    ## A heading {#its-id}
    Prose; a `###` heading may have an id too, {#its-id.part}.

Reading refuses only what cannot be read. What a spec lacks for a purpose is said by who has that purpose: the offline
generator needs :func:`value_of`, a language model :func:`sections_of`, an author all of :mod:`msm_hpc.corpus.lint`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError

from msm_hpc.base.errors import UserError
from msm_hpc.base.front_matter import FRONT_MATTER
from msm_hpc.base.typed_json import adapter
from msm_hpc.config.schema import Name

SpecKind = Literal["value", "principles", "rules", "value_augmented", "rules_augmented"]
Forbidden = Literal["rules", "reasons"]

HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*(?:\{#([^}]*)\})?\s*#*\s*")
FENCE = re.compile(r"\s*(```|~~~)")
KEY = re.compile(r"([^\s:#]+)\s*:")
ID = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")


@dataclass(frozen=True)
class Part:
    """A ``###`` heading inside a section; ``id`` is empty where it has none."""

    id: str
    heading: str
    line: int


@dataclass(frozen=True)
class Section:
    """What is below one ``##`` heading, which stands in ``line`` of the file; ``text`` starts in the line after it."""

    id: str
    heading: str
    text: str
    line: int
    parts: tuple[Part, ...] = ()

    @property
    def words(self) -> int:
        """How many words its text has."""
        return len(self.text.split())


@dataclass(frozen=True, kw_only=True)
class FrontMatter:
    """What a spec says of itself; other keys are the author's own.

    Attributes:
        name: what rows call it; the name of the file, if it gives none.
        value: of a spec of one value, its name in pairs and domains.
        domain: of such a spec, what its alignment chats are about.
        family: variants that are compared with each other have one.
        forbid: what it is not to contain.
    """

    name: Name = ""
    version: PositiveInt | None = None
    kind: SpecKind | None = None
    value: Annotated[str, Field(min_length=1)] | None = None
    domain: Annotated[str, Field(min_length=1)] | None = None
    family: Name | None = None
    forbid: tuple[Forbidden, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """A Model Spec.

    Attributes:
        sha256: of the file.
        introduction: what stands between the title and the first section.
        key_lines: the lines of the keys of the front matter; of those in quotes or braces they are not known.
    """

    path: Path
    sha256: str
    front: FrontMatter
    title: str = ""
    introduction: str = ""
    sections: tuple[Section, ...] = ()
    key_lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What rows call it."""
        return self.front.name or self.path.stem

    @property
    def body(self) -> str:
        """All of it as one text without ids: what a generator is given as context."""
        parts = [f"# {self.title}", self.introduction]
        for section in self.sections:
            parts += [f"## {section.heading}", without_ids(section.text)]
        return "\n\n".join(part for part in parts if part.strip("# "))

    @property
    def words(self) -> int:
        """How many words it has, without headings."""
        return len(self.introduction.split()) + sum(section.words for section in self.sections)


def read_spec(path: Path) -> ModelSpec:
    """Read a Markdown Model Spec.

    Raises:
        UserError: there is no file, no front matter, or a key of it has a value of the wrong kind; names file, line
            and key.
    """
    data = _bytes(path)
    text = data.decode("utf-8").replace("\r\n", "\n")
    match = FRONT_MATTER.match(text)
    if match is None:
        raise UserError(f"{path}:1: no front matter; begin the file with lines '---', 'name: {path.stem}', '---'")
    lines = {key[1]: number for number, line in enumerate(match[1].split("\n"), 2) if (key := KEY.match(line))}
    front = _front_matter(path, match[1], lines)
    first_line = text[: match.end()].count("\n") + 1
    title, introduction, sections = _sections(text[match.end() :].split("\n"), first_line)
    return ModelSpec(path, hashlib.sha256(data).hexdigest(), front, title, introduction, sections, lines)


def value_of(spec: ModelSpec) -> str:
    """The value that a spec is about, where what reads it needs one.

    Raises:
        UserError: its front matter names none.
    """
    if spec.front.value is None:
        raise UserError(
            f"{spec.path}:2: value: the front matter must name the spec's value, for example 'value: america'"
        )
    return spec.front.value


def domain_of(spec: ModelSpec) -> str:
    """The domain of a spec's preferences, where chats are to show them.

    Raises:
        UserError: its front matter names none.
    """
    if spec.front.domain is None:
        raise UserError(f"{spec.path}:2: domain: chats need the domain that the spec's preferences are in; name it")
    return spec.front.domain


def sections_of(spec: ModelSpec) -> tuple[Section, ...]:
    """The sections of a spec that documents are to be made from.

    Raises:
        UserError: it has none, or one without an id of its own, or without text; there is a line for each.
    """
    problems = [f"{spec.path}:{line}: {what}" for line, what in section_problems(spec)]
    if problems:
        raise UserError("\n".join(problems))
    return spec.sections


def section_problems(spec: ModelSpec) -> Iterator[tuple[int, str]]:
    """Lines, and what is wrong there: sections that are missing, empty, or not told apart by their ids."""
    if not spec.sections:
        yield 1, "no sections; give it headings such as '## What it values {#value}'"
    seen: dict[str, int] = {}
    for section in spec.sections:
        named: list[Section | Part] = [section, *(part for part in section.parts if part.id)]
        if not section.id:
            yield section.line, f"section {section.heading!r} has no id; write '## {section.heading} {{#an-id}}'"
        if not section.text.strip():
            yield section.line, f"section {section.heading!r} is empty; write its text, or remove it"
        for each in (one for one in named if one.id):
            if not ID.fullmatch(each.id):
                yield each.line, f"id {each.id!r}: use lower-case letters, digits, '-' and '.' only"
            if each.id in seen:
                yield each.line, f"id {each.id!r} is that of line {seen[each.id]} too; give each its own"
            seen.setdefault(each.id, each.line)


def without_ids(text: str) -> str:
    """Markdown without the ids of its headings."""
    return re.sub(r"(?m)^(#{1,6}\s.*?)\s*\{#[^}\n]*\}[ \t]*$", r"\1", text).strip()


def _bytes(path: Path) -> bytes:
    """The content of a file that is UTF-8."""
    if not path.is_file():
        raise UserError(f"{path}: no such Model Spec file; correct the path")
    data = path.read_bytes()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the Model Spec as UTF-8") from error
    return data


def _front_matter(path: Path, text: str, lines: Mapping[str, int]) -> FrontMatter:
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}:2: the front matter is not YAML; fix it: {error}") from error
    if not isinstance(given, Mapping):
        raise UserError(f"{path}:2: the front matter has no keys; write 'name: {path.stem}' and so on, a line each")
    try:
        return adapter(FrontMatter).validate_python(given)
    except ValidationError as error:
        problems = [(str(each["loc"][0]), each["msg"], each["input"]) for each in error.errors()]
        said = (f"{path}:{lines.get(key, 2)}: {key}: {what}, got {got!r}" for key, what, got in problems)
        raise UserError("\n".join(said)) from error


def _sections(lines: list[str], first: int) -> tuple[str, str, tuple[Section, ...]]:
    """The title, the introduction and the sections of what stands below the front matter, from line ``first`` on."""
    headings = [*_headings(lines)]
    title = next((heading for _, level, heading, _ in headings if level == 1), "")
    begins = [index for index, level, _, _ in headings if level == 2] + [len(lines)]
    introduction = re.sub(r"(?m)^# .*$", "", "\n".join(lines[: begins[0]])).strip()
    sections = []
    for begin, end in pairwise(begins):
        inside = [heading for heading in headings if begin <= heading[0] < end]
        parts = tuple(Part(part_id, part, first + at) for at, level, part, part_id in inside if level == 3)
        _, _, heading, section_id = inside[0]
        sections.append(Section(section_id, heading, "\n".join(lines[begin + 1 : end]).rstrip(), first + begin, parts))
    return title, introduction, tuple(sections)


def _headings(lines: list[str]) -> Iterator[tuple[int, int, str, str]]:
    """Index, level, text and id of every heading outside code."""
    code = False
    for index, line in enumerate(lines):
        code ^= bool(FENCE.match(line))
        if not code and (match := HEADING.fullmatch(line)):
            yield index, len(match[1]), match[2], match[3] or ""
