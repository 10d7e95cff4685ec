"""What is measured: the command lines of ours and of each peer, for one corpus and one tokenizer."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).resolve().parent / "peers"
EOS = {"llama3": "<|end_of_text|>", "qwen25": "<|endoftext|>"}
OURS = "ours"


@dataclass(frozen=True)
class Job:
    """A corpus, a tokenizer folder, and a folder for what comes out; ``group`` names the three."""

    corpus: Path
    tokenizer: Path
    out: Path

    @property
    def group(self) -> str:
        """The name in tables, such as ``documents-100 llama3``."""
        return f"{self.corpus.stem} {self.tokenizer.name}"


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        group: cases of one group did the same work.
        name: ours, or the peer's.
        commands: run one after the other, their costs added.
        out: emptied before each run; the token ids are in its ``**/*.bin``, int32, in the order of the file names.
    """

    group: str
    name: str
    commands: tuple[tuple[str, ...], ...]
    out: Path


@dataclass(frozen=True)
class Peers:
    """The interpreter that has the peers' packages, and a checkout of Megatron-LM, or None."""

    python: str
    megatron: Path | None

    def on_documents(self, job: Job) -> list[Case]:
        """Ours and every peer."""
        return [ours(job), *self._megatron(job), *self._megatron_fast(job), self._datatrove(job), reference(job)]

    def on_many_documents(self, job: Job) -> list[Case]:
        """Ours and the one peer whose speed is near."""
        return [ours(job), *self._megatron_fast(job)]

    def on_chats(self, job: Job) -> list[Case]:
        """Ours and transformers, with the mask of assistant tokens."""
        out = job.out / "transformers"
        script = str(PEERS / "chat_template.py")
        command = (self.python, script, str(job.corpus), str(job.tokenizer), str(out / "0.bin"), str(out / "0.mask"))
        return [ours(job), Case(job.group, "transformers apply_chat_template", (command,), out)]

    def _megatron(self, job: Job) -> list[Case]:
        return self._megatron_tool(job, "Megatron, 2 workers", "preprocess_data.py", "--workers", "2")

    def _megatron_fast(self, job: Job) -> list[Case]:
        return self._megatron_tool(job, "Megatron fast", "preprocess_data_fast.py", "--use-gigatoken")

    def _megatron_tool(self, job: Job, name: str, tool: str, *options: str) -> list[Case]:
        if self.megatron is None:
            return []
        out = job.out / tool.removesuffix(".py")
        command = (
            *(self.python, str(self.megatron / "tools" / tool), "--input", str(job.corpus), "--append-eod"),
            *("--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", str(job.tokenizer)),
            *("--output-prefix", str(out / "0"), *options),
        )
        return [Case(job.group, name, (command,), out)]

    def _datatrove(self, job: Job) -> Case:
        out, halves = job.out / "datatrove", str(job.corpus.with_suffix(""))
        script = str(PEERS / "datatrove_megatron.py")
        command = (self.python, script, halves, str(job.tokenizer), EOS[job.tokenizer.name], str(out))
        return Case(job.group, "datatrove, 2 tasks", (command,), out)


def ours(job: Job) -> Case:
    """``run`` and then ``pack``: hashes, masks, manifests and the pack plan are included."""
    out = job.out / OURS
    command, tokenizer = (sys.executable, "-m", "tokenization"), ("--tokenizer", str(job.tokenizer))
    run = (*command, "run", "--corpus", str(job.corpus), *tokenizer, "--out", str(out / "shard"))
    pack = (*command, "pack", "--shards", f"corpus={out / 'shard'}", *tokenizer, "--sequence-length", "4096")
    return Case(job.group, OURS, (run, (*pack, "--out", str(out / "plan"))), out)


def reference(job: Job) -> Case:
    """A plain script on ``tokenizers``; its ids are right by definition."""
    out = job.out / "reference"
    command = (sys.executable, str(PEERS / "reference.py"), str(job.corpus), str(job.tokenizer), str(out / "0.bin"))
    return Case(job.group, "tokenizers, a plain script", (command,), out)


def engine_alone(job: Job) -> tuple[str, ...]:
    """The command that prints what the fast engine itself takes for the corpus."""
    return (sys.executable, str(PEERS / "engine.py"), str(job.corpus), str(job.tokenizer))
