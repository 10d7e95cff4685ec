"""SIGKILL at random instants: what is there is whole, and going on gives what an unbroken run gives."""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.campaign.runner import run_step
from msm_hpc.launch.forked import start_server
from tokenization.__main__ import main
from tokenization.verify import verify

TASKS, KILLS = 3, 50


@pytest.mark.slow
def test_fifty_kills_change_nothing(make_tokenizer: Any, mixed_rows: list[dict[str, Any]], tmp_path: Path) -> None:
    with (tmp_path / "data.jsonl").open("w") as file:
        for copy in range(60):
            file.writelines(json.dumps({**row, "id": f"{copy}-{row['id']}"}) + "\n" for row in mixed_rows)
    tokenizer = make_tokenizer()
    start_server(run_step)  # whose forks have imported what this needs, as those of the jobs in other tests
    _run(tmp_path, tokenizer, "ready", 0)
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


def _start(root: Path, tokenizer: Path, name: str, task: int) -> BaseProcess:
    corpus = ["--corpus", f"{root}/data.jsonl", "--tokenizer", str(tokenizer), "--out", f"{root}/{name}"]
    command = ["run", *corpus, "--task", str(task), "--tasks", str(TASKS)]
    process = multiprocessing.get_context("forkserver").Process(target=main, args=(command,))
    process.start()
    return process


def _run(root: Path, tokenizer: Path, name: str, task: int) -> Path:
    process = _start(root, tokenizer, name, task)
    process.join()
    assert process.exitcode == 0
    return root / name


def _run_and_kill(root: Path, tokenizer: Path, name: str, task: int, seconds: float) -> bool:
    """Whether it was killed before its end."""
    process = _start(root, tokenizer, name, task)
    process.join(seconds)
    ended = process.exitcode
    assert ended in (0, None)
    process.kill()
    process.join()
    return process.exitcode != 0
