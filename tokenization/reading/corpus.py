"""A corpus: files or a data set, in one order, split over array tasks.

Think of all files end to end as one axis of bytes. The units that can be read alone begin at places of that axis: a
line, a row group of Parquet, a whole compressed file. Task ``k`` of ``n`` takes the units that *begin* in the ``k``-th
of ``n`` equal ranges, so the tasks' rows, one after another, are the same for every ``n``. With 3 tasks::

    |-- a.jsonl --|------ b.jsonl.gz ------|------ c.parquet ------|
    | lines        | one unit               | group 0   | group 1   |
    |------- task 0 ------:------- task 1 -------:----- task 2 -----|

Task 0 takes a.jsonl and b.jsonl.gz, task 1 group 0, task 2 group 1. A data set stands alone; its axis is its rows.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from msm_hpc.base.errors import UserError
from tokenization.reading.formats import PLAIN, RowShape
from tokenization.reading.hub import NAMED
from tokenization.reading.json_list import json_file
from tokenization.reading.lines import CompressedLines, PlainLines
from tokenization.reading.readers import Batch, CorpusReader, InputRecord, readable
from tokenization.reading.tables import Parquet, load_dataset, load_saved_dataset

SAVED_DATASET, SAVED_SPLITS = "dataset_info.json", "dataset_dict.json"

_LINES = (".jsonl", ".ndjson")
ENDINGS: Mapping[str, Callable[[Path, str, int, RowShape], CorpusReader]] = {
    **{ending: PlainLines for ending in _LINES},
    **{ending + packed: CompressedLines for ending in _LINES for packed in (".gz", ".zst")},
    ".json": json_file,
    ".parquet": Parquet,
}
NO_CORPUS = ("README", "LICENSE")
"""How files in a folder begin that are of no corpus, beside hidden ones."""


@dataclass(frozen=True)
class Corpus:
    """Files, or one data set, in the order in which they are read."""

    name: str
    readers: Sequence[CorpusReader]

    @staticmethod
    def open(source: Path | str, shape: RowShape = PLAIN) -> Corpus:
        """Finds the files; reads none of them.

        Args:
            source: a file of JSON lines (``.jsonl`` or ``.ndjson``, also with ``.gz`` or ``.zst``), a ``.json`` list,
                or Parquet; a folder of nothing but such files, sorted by name; a glob of files; a folder that
                ``datasets`` saved; or ``hf:NAME[@REVISION][:[SUBSET/]SPLIT]``, a data set by name, of its split
                ``train`` if not said otherwise. Files that begin with ``.`` or ``_`` are hidden.
            shape: how the rows are written.

        Raises:
            UserError: there is no such thing, it is empty, or a folder holds anything else, which would be left out.
        """
        name = str(source)
        readers = _readers(name, shape)
        if not sum(reader.size for reader in readers):
            raise UserError(f"{name}: empty; give a corpus with at least one row")
        return Corpus(name, readers)

    def share(self, task: int, tasks: int) -> Share:
        """The share of task ``task`` of ``tasks``, counted from 0; may have no rows.

        Raises:
            UserError: a file cannot be read.
        """
        assert 0 <= task < tasks
        size = sum(reader.size for reader in self.readers)
        begin, end = size * task // tasks, size * (task + 1) // tasks
        parts = []
        for reader in self.readers:
            first, last = max(begin, 0), min(end, reader.size)
            if first < last:
                first, last = reader.span(first, last)
            if first < last:
                parts.append((reader, first, last))
            begin, end = begin - reader.size, end - reader.size  # counted from the start of the next file
        return Share(parts)


class Share:
    """What one task reads of a corpus.

    Attributes:
        bytes: about how many it has; exact for files.
        done: how many of them are read.
    """

    def __init__(self, parts: Sequence[tuple[CorpusReader, int, int]]) -> None:
        """``parts`` are readers with their spans, which are not empty."""
        self.bytes = sum((end - begin) * reader.scale for reader, begin, end in parts)
        self.done = 0
        self._parts = parts
        self._records: list[InputRecord] = []

    def batches(self) -> Iterator[Batch]:
        """The rows in lists of about 1 MiB of input, a row that cannot be used as its ``BadRow``.

        Raises:
            UserError: a file cannot be read to its end; names it and about where.
        """
        assert self.done == 0, "a share is read once"
        for reader, begin, end in self._parts:
            digest = hashlib.sha256()
            yield from reader.read(begin, end, partial(self._see, digest))
            self._records.append(InputRecord(reader.label, begin, end, digest.hexdigest()))

    def inputs(self) -> tuple[InputRecord, ...]:
        """What was read, hashed on the way; to be asked once ``batches`` is read to its end."""
        assert len(self._records) == len(self._parts), "batches() is not read to its end"
        return tuple(self._records)

    def _see(self, digest: hashlib._Hash, block: bytes) -> None:
        digest.update(block)
        self.done += len(block)


def _readers(name: str, shape: RowShape) -> list[CorpusReader]:
    if name.startswith(NAMED):
        return [load_dataset(name, shape)]
    with readable(name):
        if glob.has_magic(name) and not Path(name).exists():
            return _globbed(name, shape)
        path = Path(name)
        if not path.exists():
            raise UserError(f"{name}: no such file or folder; give a corpus")
        return _folder(path, shape) if path.is_dir() else [_file(path, path.name, shape)]


def _folder(folder: Path, shape: RowShape) -> list[CorpusReader]:
    if (folder / SAVED_SPLITS).exists():
        raise UserError(f"{folder}: holds several splits; give the folder of one, such as {folder / 'train'}")
    if (folder / SAVED_DATASET).exists():
        return [load_saved_dataset(folder, shape)]
    names = sorted(path.name for path in folder.iterdir() if not _hidden(path.name))
    names = [name for name in names if not name.startswith(NO_CORPUS)]
    if not names:
        raise UserError(f"{folder}: no corpus file in it; name files {', '.join(ENDINGS)}")
    if other := next((name for name in names if _ending(name) is None or (folder / name).is_dir()), None):
        raise UserError(
            f"{folder / other}: would be left out: a corpus is files named {', '.join(ENDINGS)}; move it elsewhere, or "
            f"say which files to read by a pattern, such as '{folder}/*.jsonl' or '{folder}/**/*.jsonl'"
        )
    return [_file(folder / name, name, shape) for name in names]


def _globbed(pattern: str, shape: RowShape) -> list[CorpusReader]:
    """The files of a pattern; their names begin after its last folder without a wildcard."""
    root = Path(pattern)
    while glob.has_magic(str(root)):
        root = root.parent
    found = (Path(match) for match in glob.iglob(pattern, recursive=True))
    names = sorted(path.relative_to(root).as_posix() for path in found if path.is_file() and not _hidden(path.name))
    if not names:
        raise UserError(f"{pattern}: matches no file; give another pattern, such as 'corpus/*.jsonl'")
    return [_file(root / name, name, shape) for name in names]


def _file(path: Path, name: str, shape: RowShape) -> CorpusReader:
    ending = _ending(name)
    if ending is None:
        raise UserError(f"{path}: not a kind of corpus file; name it {', '.join(ENDINGS)}")
    size = path.stat().st_size
    if size == 0 and ending not in _LINES:
        raise UserError(f"{path}: empty, so it was cut short; copy it again")
    return ENDINGS[ending](path, name, size, shape)


def _ending(name: str) -> str | None:
    return next((ending for ending in ENDINGS if name.endswith(ending)), None)


def _hidden(name: str) -> bool:
    return name.startswith((".", "_"))
