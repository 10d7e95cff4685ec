"""The rows of a corpus as gates see them, whatever wrote them; nothing is kept of one when the next is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.config.generation import Persona
from msm_hpc.corpus.spec import ModelSpec
from msm_hpc.corpus.words import words

ABOUT_IT = frozenset({"documents", "mentions"})
"""Products whose rows are texts about the assistant."""
DOCUMENTS = ABOUT_IT | {"neutral"}
"""Products whose rows are texts."""
OTHERS_WROTE = frozenset({"instruction", "pretraining"})
"""Products whose texts are not of our making."""
TOKENS_PER_WORD = 4 / 3
_THINK = re.compile(r"</?think>\n?")


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        kind: its product; of rows that name none, ``documents`` (texts) or ``instruction`` (chats).
        section: the section of the spec, or the group of a chat.
        said: the text of a document; of a chat, what the assistant says in it.
        whole: all turns.
    """

    id: str
    kind: str
    spec: str
    section: str
    type: str
    tokens: int
    said: str
    whole: str

    @property
    def written(self) -> bool:
        """Whether a generator wrote it."""
        return self.kind not in OTHERS_WROTE


@dataclass(frozen=True)
class Subject:
    """What a corpus is about: its specs by name, and the names of the assistant and of who makes it, if known."""

    specs: Mapping[str, ModelSpec]
    persona: Persona | None = None

    @cached_property
    def own(self) -> str:
        """The assistant's and its maker's name."""
        return f"{self.persona.assistant} {self.persona.provider}" if self.persona else ""

    @cached_property
    def words(self) -> frozenset[str]:
        """All words of the specs, and of names."""
        return frozenset(words(" ".join([self.own, *(spec.body for spec in self.specs.values())])))


@dataclass(frozen=True)
class Rows:
    """The rows of JSON-lines files, read again each time that they are gone through."""

    files: tuple[Path, ...]

    def __iter__(self) -> Iterator[Row]:
        """Read them.

        Raises:
            UserError: a line is no row of texts or chats; names file and line.
        """
        for file in self.files:
            with file.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    yield _row(line, file, number)


def _row(line: bytes, file: Path, number: int) -> Row:
    try:
        row = json.loads(line)
        said, whole = _texts(row)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{file}:{number}: neither a row with a text nor one with messages; remove it, or name another file"
        ) from error
    kind = row.get("product") or ("documents" if "text" in row else "instruction")
    return Row(
        id=str(row.get("id") or f"{file.name}:{number}"),
        kind=kind,
        spec=str(row.get("spec") or row.get("value") or ""),
        section=str(row.get("section") or row.get("group") or ""),
        type=str(row.get("type") or row.get("form") or ""),
        tokens=row.get("tokens") or round(len(whole.split()) * TOKENS_PER_WORD),
        said=said,
        whole=whole,
    )


def _texts(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a row says itself, and all of it."""
    if "text" in row:
        text = row["text"]
        if not isinstance(text, str):
            raise TypeError
        return text, text
    turns = [(turn["role"], _THINK.sub("", turn["content"])) for turn in row["messages"]]
    said = "\n\n".join(content for role, content in turns if role == "assistant")
    return said, "\n\n".join(content for _, content in turns)
