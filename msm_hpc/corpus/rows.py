"""What becomes of an item: a row, or nothing, and what was rejected on the way; and how both are written."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msm_hpc.base.files import atomic, write_json
from msm_hpc.corpus.asking import tagged, without_thoughts
from msm_hpc.corpus.items import lines
from msm_hpc.corpus.words import normal
from msm_hpc.endpoint.prompts import Reject, Result
from msm_hpc.endpoint.scripts import Script

DATA, REJECTS, SUMMARY = "data.jsonl", "_rejects.jsonl", "_summary.json"
"""Files with ``_`` in front are no part of the corpus to what reads it."""
BALANCED = ("section", "group", "type")
"""What rows are counted by."""


@dataclass(frozen=True)
class Rejection:
    """Why something that was paid for is no row: where in its making, the reason to count by, and what was seen."""

    stage: str
    reason: str
    detail: str
    text: str = ""
    sample: int = 0


@dataclass(frozen=True)
class Made:
    """What was made of the item ``id``: ``row`` is None where every try was rejected."""

    id: str
    about: Mapping[str, Any]
    row: Mapping[str, Any] | None
    rejections: tuple[Rejection, ...] = ()


def text_of(row: Mapping[str, Any]) -> str:
    """The text of a document, or all that the assistant says in a chat."""
    return str(row["text"]) if "text" in row else _said(row, "assistant")


def _said(row: Mapping[str, Any], *roles: str) -> str:
    return "\n\n".join(turn["content"] for turn in row["messages"] if turn["role"] in roles)


def attempts(
    row_id: str, about: Mapping[str, Any], tries: int, attempt: Callable[[int], Script[dict[str, Any] | Rejection]]
) -> Script[Made]:
    """Ask for a row until one passes, each time for a new sample, at most ``tries`` times."""
    rejections: list[Rejection] = []
    for sample in range(tries):
        result = yield from attempt(sample)
        if isinstance(result, dict):
            return Made(row_id, about, result, tuple(rejections))
        rejections.append(result)
    return Made(row_id, about, None, tuple(rejections))


def document_in(result: Result, stage: str, sample: int) -> str | Rejection:
    """The document in a reply, or why there is none."""
    if isinstance(result, Reject):
        return Rejection(stage, result.reason, result.detail, sample=sample)
    if result.finish == "length":
        return Rejection(stage, "truncated", "cut by writing.reply_tokens", result.text, sample)
    text = tagged(without_thoughts(result.text), "document")
    return text or Rejection(stage, "malformed", "no text between <document> and </document>", result.text, sample)


class RowFiles:
    """The files of a corpus while they are written; they appear, with a summary, when the block ends.

    A row that says the same as an earlier one is rejected: of each row a hash of 16 bytes is kept, which in a set
    takes about 105 bytes of memory (measured with CPython 3.11: 10 MB for 100,000 rows). Nothing else here grows with
    the rows.
    """

    def __init__(self, out: Path, summary: Mapping[str, Any]) -> None:
        self.rows = 0
        self._out, self._summary = out, summary
        self._counts: dict[str, Counter[str]] = defaultdict(Counter, rejected=Counter())
        self._words = self._tokens = 0
        self._seen: set[bytes] = set()
        self._open = ExitStack()

    def __enter__(self) -> RowFiles:
        self._data, self._rejects = (self._open.enter_context(atomic(self._out / name)) for name in (DATA, REJECTS))
        return self

    def __exit__(self, *raised: Any) -> None:
        self._open.__exit__(*raised)
        if raised[0] is None:
            average = round(self._tokens / self.rows) if self.rows else 0
            counts = {key: dict(sorted(counter.items())) for key, counter in self._counts.items()}
            sizes = {"rows": self.rows, "words": self._words, "tokens": self._tokens, "tokens_a_row": average}
            write_json(self._out / SUMMARY, {**self._summary, **sizes, **counts})

    @property
    def why(self) -> str:
        """The commonest reasons of rejects."""
        return ", ".join(f"{reason} {count:,}" for reason, count in self._counts["rejected"].most_common(3)) or "none"

    def add(self, made: Made) -> None:
        """What became of an item."""
        for rejection in made.rejections:
            self.reject({"id": made.id, **vars(rejection), **made.about})
        if made.row is not None:
            self.row(made.row)

    def row(self, row: Mapping[str, Any]) -> None:
        """Write a row."""
        whole = row["text"] if "text" in row else _said(row, "user", "assistant")
        digest = hashlib.blake2b(normal(whole).encode(), digest_size=16).digest()
        if digest in self._seen:
            self.reject({**row, "stage": "filter", "reason": "duplicate", "detail": ""})
            return
        self._seen.add(digest)
        self._data.write(line(row))
        self.rows += 1
        self._words += len(text_of(row).split())
        self._tokens += row["tokens"]
        self._counts["verdicts"][row["verdict"]] += 1
        for key in BALANCED:
            if key in row:
                self._counts[key][row[key]] += 1

    def reject(self, row: Mapping[str, Any]) -> None:
        """Write what is no row."""
        self._rejects.write(line(row))
        self._counts["rejected"][row["reason"]] += 1


def line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def read_rows(path: Path, part: range | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a file that :class:`RowFiles` wrote, one at a time; of these, those of ``part``."""
    yield from map(json.loads, lines(path, part))
