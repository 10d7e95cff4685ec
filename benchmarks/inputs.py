"""Tokenizers and corpora of the benchmark, made where they are not there yet."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks import corpus
from tests.tokenization.real_tokenizers import build

CHATS, FEW_CHATS = 100_000, 20_000
LARGE = 4
"""There are three corpora of documents, each so many times as large as the one before."""
TEMPLATE = Path(__file__).resolve().parent / "chatml.jinja"


def main() -> None:
    """Make them all, in a process of its own: memory that a process has when it forks is counted as the child's."""
    work, mb, *text = sys.argv[1:]
    Path(work).mkdir(parents=True, exist_ok=True)
    inputs = Inputs(Path(work), tuple(text))
    for size in sizes(int(mb)):
        inputs.documents(size)
    inputs.ten_documents()
    for count in (FEW_CHATS, CHATS):
        inputs.chats(count)


def sizes(mb: int) -> tuple[int, int, int]:
    """MB of the three corpora of documents, of which the second has ``mb``."""
    return max(mb // LARGE, 1), mb, mb * LARGE


@dataclass(frozen=True)
class Inputs:
    """What lies in the folder ``work``; ``text`` are globs of further text files."""

    work: Path
    text: tuple[str, ...]

    def tokenizer(self, name: str) -> Path:
        """The folder of ``llama3`` or ``qwen25``."""
        return build(name, self.work / "tokenizers" / name)

    def chat_tokenizer(self) -> Path:
        """Qwen2.5 with a ChatML template that marks what the assistant says, and ``<|im_end|>`` as EOD."""
        folder = self.work / "tokenizers" / "chatml"
        if not folder.exists():
            shutil.copytree(self.tokenizer("qwen25"), folder)
            config = folder / "tokenizer_config.json"
            config.write_text(config.read_text().replace('"eos_token": "<|endoftext|>"', '"eos_token": "<|im_end|>"'))
            shutil.copy(TEMPLATE, folder / "chat_template.jinja")
        return folder

    def documents(self, mb: int) -> Path:
        """A corpus of documents, and beside it a folder with its two halves."""
        path = self.work / f"documents-{mb}.jsonl"
        if not path.exists():
            self._note(corpus.write_documents(path, mb * 1_000_000, self.text))
            _halve(path)
        return path

    def ten_documents(self) -> Path:
        """What shows the cost of starting."""
        path = self.work / "documents-ten.jsonl"
        if not path.exists():
            with self.documents(1).open("rb") as file:
                path.write_bytes(b"".join(islice(file, 10)))
        return path

    def chats(self, count: int) -> Path:
        """A corpus of chats."""
        path = self.work / f"chats-{count}.jsonl"
        if not path.exists():
            self._note(corpus.write_chats(path, count, self.text))
        return path

    def notes(self) -> str:
        """What was written, a line a corpus."""
        return (self.work / "corpora.txt").read_text()

    def _note(self, line: str) -> None:
        with (self.work / "corpora.txt").open("a") as file:
            print(line, file=file)


def _halve(path: Path) -> None:
    """A task of datatrove takes whole files: two tasks want two."""
    folder = path.with_suffix("")
    folder.mkdir()
    with path.open("rb") as file:
        size, written = path.stat().st_size, 0
        with (folder / "0.jsonl").open("wb") as half:
            while written < size // 2:
                written += half.write(file.readline())
        with (folder / "1.jsonl").open("wb") as half:
            shutil.copyfileobj(file, half)


if __name__ == "__main__":
    main()
