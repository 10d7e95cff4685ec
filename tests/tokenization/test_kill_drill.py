"""SIGKILL at random instants: what is there is whole, and going on gives what an unbroken run gives."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tokenization.verify import verify

TASKS, KILLS = 3, 50


@pytest.mark.slow
def test_fifty_kills_change_nothing(make_tokenizer: Any, mixed_rows: list[dict[str, Any]], tmp_path: Path) -> None:
    with (tmp_path / "data.jsonl").open("w") as file:
        for copy in range(60):
            file.writelines(json.dumps({**row, "id": f"{copy}-{row['id']}"}) + "\n" for row in mixed_rows)
    tokenizer = make_tokenizer()
    started = time.monotonic()
    unbroken = [_run(tmp_path, tokenizer, f"unbroken-{task}", task) for task in range(TASKS)]
    longest = 1.2 * (time.monotonic() - started) / TASKS

    instants = random.Random(0)
    kills = 0
    rounds: list[list[Path]] = []
    while kills < KILLS:
        rounds.append([tmp_path / f"{len(rounds)}-{task}" for task in range(TASKS)])
        for task, folder in enumerate(rounds[-1]):
            while not folder.exists():
                kills += _run_and_kill(tmp_path, tokenizer, folder.name, task, instants.uniform(0, longest))
            verify([folder])
    [expected] = verify(unbroken).corpora
    assert expected.sha256 is not None
    assert [verify(folders).corpora for folders in rounds] == [(expected,)] * len(rounds)


def _command(root: Path, tokenizer: Path, name: str, task: int) -> list[str]:
    corpus = ["--corpus", f"{root}/data.jsonl", "--tokenizer", str(tokenizer), "--out", f"{root}/{name}"]
    return [sys.executable, "-m", "tokenization", "run", *corpus, "--task", str(task), "--tasks", str(TASKS)]


def _run(root: Path, tokenizer: Path, name: str, task: int) -> Path:
    subprocess.run(_command(root, tokenizer, name, task), check=True, capture_output=True)
    return root / name


def _run_and_kill(root: Path, tokenizer: Path, name: str, task: int, seconds: float) -> bool:
    """Whether it was killed before its end."""
    process = subprocess.Popen(_command(root, tokenizer, name, task), stdout=subprocess.DEVNULL)
    try:
        assert process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait() != 0
    return False
