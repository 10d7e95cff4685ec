"""Failures as a user reads them: those alike once, with the job's own last lines."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from msm_hpc.campaign.views.ends import Ended
from msm_hpc.cli.views.failures import MOST, print_failures
from msm_hpc.config.stages import EvalConfig
from msm_hpc.graph.steps import Step


def ended(label: str, message: str = "RuntimeError: no", **fields: object) -> Ended:
    return replace(
        Ended(Step("eval", label, EvalConfig(answer=f"{label} {{item}}"), {}), "code", message, None), **fields
    )  # type: ignore[arg-type]


@pytest.fixture
def shown(tmp_path: Path) -> Callable[..., str]:
    def show(*ends: Ended) -> str:
        console = Console(width=120, color_system=None)
        with console.capture() as capture:
            print_failures(console, ends, tmp_path)
        return capture.get()

    return show


def test_a_failure_shows_cause_message_and_the_last_lines_of_its_log(shown: Callable[..., str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("first\n" * 50 + "[last] words\n")
    text = shown(ended("[b]one", "RuntimeError: [no]", log=log))
    assert text.startswith("eval/[b]one (eval/")
    assert "): failed (code)\n  RuntimeError: [no]\n  | first\n" in text
    assert text.endswith(f"  | first\n  | [last] words\n  log: {log}\n")
    assert text.count("| first") < 20


def test_what_a_message_explains_needs_no_log(shown: Callable[..., str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Traceback\n")
    text = shown(ended("one", "pairs.jsonl:3: no field 'id'; add it", cause="user", log=log))
    assert "Traceback" not in text and "failed (user)\n  pairs.jsonl:3: no field 'id'; add it\n  log: " in text


def test_a_lost_job_without_a_log_says_so(shown: Callable[..., str], tmp_path: Path) -> None:
    text = shown(ended("one", "job 64_3 ended before it could start", cause="lost", log=tmp_path / "64_3_0_log.err"))
    assert "): lost\n  job 64_3 ended before it could start\n" in text
    assert f"  there is no log {tmp_path}/64_3_0_log.err\n" in text


def test_of_a_lost_rank_its_own_log_is_shown(shown: Callable[..., str], tmp_path: Path) -> None:
    for rank, said in ((0, "I wait"), (3, "Segmentation fault")):
        (tmp_path / f"64_{rank}_log.err").write_text(f"{said}\n")
    lost = "rank 3 (host n2, process 77) has given no sign of life for 60 s"
    text = shown(ended("one", lost, cause="rank lost", log=tmp_path / "64_0_log.err"))
    assert "| Segmentation fault" in text and "I wait" not in text


def test_evidence_and_advice_are_shown_where_the_message_has_neither(shown: Callable[..., str]) -> None:
    evidence = "sacct: OUT_OF_MEMORY of step 64_1.0"
    text = shown(ended("one", "ended without a record", cause="oom", evidence=evidence))
    assert (
        f"failed (oom)\n  ended without a record\n  evidence: {evidence}\n  what to do: of the node's memory: a" in text
    )
    text = shown(ended("one", "rank 1 hangs", cause="rank lost", evidence="rank 1 hangs"))
    assert "evidence" not in text and "what to do: that rank's log says why" in text
    text = shown(ended("one", "no field 'id'; add it", cause="user", evidence="UserError raised at rows.py:3, in read"))
    assert "evidence" not in text and "what to do" not in text


def test_ends_of_one_cause_are_alike_by_what_shows_it(shown: Callable[..., str]) -> None:
    ends = [
        ended(f"{job}", "ended without a record", cause="oom", evidence=f"sacct: OUT_OF_MEMORY of step 64_{job}.0")
        for job in range(5)
    ]
    assert shown(*ends).count("failed (oom)") == 1


def test_equal_failures_are_one_block(shown: Callable[..., str], tmp_path: Path) -> None:
    """1,650 of them, each with its own name, host and port in the message, and one of another sort."""
    log = tmp_path / "log"
    log.write_text("the last line\n")
    many = [
        ended(f"aft/seed{seed}", f"OSError: eval/aft/seed{seed}: n{seed}:{20_000 + seed} is in use", log=log)
        for seed in range(1650)
    ]
    text = shown(*many, ended("other", "RuntimeError: another"))
    assert len(text.splitlines()) == 7
    assert text.startswith(
        "1,650 steps: eval/aft/seed0, eval/aft/seed1, eval/aft/seed2 and 1,647 more: failed (code)\n"
        "  OSError: eval/aft/seed0: n0:20000 is in use\n"
        "  (of eval/aft/seed0; the others differ in numbers or names)\n"
        "  | the last line\n"
    )


def test_lost_jobs_are_alike_where_their_logs_end_alike(shown: Callable[..., str], tmp_path: Path) -> None:
    ends = []
    for number, last in enumerate(["step 12, loss 3.2", "step 900, loss 1.25", "SyntaxError: invalid syntax"]):
        log = tmp_path / f"log{number}"
        log.write_text(f"begins\n{last}\n")
        ends.append(ended(f"{number}", "ended without a record", cause="lost", log=log))
    text = shown(*ends)
    assert "2 steps: eval/0, eval/1: lost\n" in text
    assert "eval/2 (" in text and "| SyntaxError: invalid syntax" in text


def test_many_sorts_of_failures_are_counted(shown: Callable[..., str]) -> None:
    words = [chr(ord("a") + number) * 3 for number in range(MOST + 2)]
    text = shown(*(ended(word, f"RuntimeError: {word}") for word in words))
    assert text.count("failed (code)") == MOST
    assert text.endswith("and 2 other sorts of failures, of 2 steps; first, see to those above\n")


def test_a_full_disk_is_reported_once_below_the_failures(
    shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = [ended("one", "OSError: no room"), ended("other", "OSError: none left")]
    assert "bytes free" not in shown(*ends)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    assert shown() == ""
    last = shown(*ends).splitlines()
    assert [number for number, line in enumerate(last) if "4,096 bytes free" in line] == [len(last) - 1]
