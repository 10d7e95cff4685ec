"""What the commands of ``python -m tokenization`` make in tests."""

from __future__ import annotations

from pathlib import Path

from tokenization.__main__ import main


def tokenise(made: Path, tasks: int, corpus: str = "data.jsonl") -> list[str]:
    """The shard folders of all tasks."""
    folders = [f"{made}/{corpus}-{tasks}/{task}" for task in range(tasks)]
    for task, folder in enumerate(folders):
        arguments = ["--corpus", f"{made}/{corpus}", "--tokenizer", f"{made}/tokenizer", "--out", folder]
        assert main(["run", *arguments, "--task", str(task), "--tasks", str(tasks)]) == 0
    return folders
