"""The rank that is named when all stand still."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from msm_hpc.training.watch.hangs import (
    HANG_SECONDS,
    MOST_SECONDS,
    CodeLine,
    Standing,
    StepTimer,
    hanging_rank,
    main_thread_line,
)
from tests.training.ranks import Job, start_ranks
from tests.training.toy import TWO_RANKS, write_inputs

WORKS, WAITS = CodeLine("data:94", False), CodeLine("distributed:3087", True)
ELSEWHERE = CodeLine("distributed:12", True)


@pytest.mark.parametrize(
    ("standings", "named"),
    [
        ([Standing(WAITS, 1.0), Standing(WORKS, 9.0), Standing(WAITS, 2.0)], 1),
        ([Standing(WAITS, 3.0), Standing(WAITS, 3.0), Standing(ELSEWHERE, 1.0)], 2),
        ([Standing(WORKS, 5.0), Standing(WORKS, 2.0), Standing(WAITS, 1.0)], 1),
        ([Standing(WORKS, 1.0), Standing(WORKS, 2.0), Standing(WAITS, 9.0)], None),
    ],
    ids=["one works", "all wait", "two work", "none has waited for long"],
)
def test_the_one_that_works_is_named_then_the_first_to_stand(standings: list[Standing], named: int | None) -> None:
    assert hanging_rank(standings, now=HANG_SECONDS + 5.0) == named


def test_a_rank_seen_again_at_its_line_keeps_its_time() -> None:
    standing = Standing(WAITS, 1.0)
    assert standing.seen(CodeLine.parse(str(WAITS)), 6.0) == standing
    assert standing.seen(WORKS, 6.0) == Standing(WORKS, 6.0)


def test_the_main_thread_is_seen_at_work_from_another() -> None:
    seen: list[CodeLine] = []
    thread = threading.Thread(target=lambda: seen.append(main_thread_line()))
    thread.start()
    thread.join()
    assert not seen[0].waits and seen[0].line.startswith("threading:")


def test_a_step_is_overdue_by_the_longest_before_it_and_the_first_has_longer() -> None:
    timer = StepTimer()
    with timer.step():
        now = time.monotonic()
        assert timer.overdue(now + MOST_SECONDS - 1) is None
        assert timer.overdue(now + MOST_SECONDS + 1) is not None
    assert timer.overdue(now + 2 * MOST_SECONDS) is None, "no step runs"
    with timer.step():
        now = time.monotonic()
        assert timer.overdue(now + HANG_SECONDS - 1) is None and not timer.is_long(now + HANG_SECONDS - 1)
        assert timer.is_long(now + HANG_SECONDS + 1)
        assert timer.overdue(now + HANG_SECONDS + 1) == pytest.approx(HANG_SECONDS + 1, abs=1)
        timer.restart(now + HANG_SECONDS)
        assert timer.overdue(now + HANG_SECONDS + 1) is None


@pytest.mark.slow
@pytest.mark.xdist_group("faults")
def test_a_rank_that_is_alive_but_hangs_is_named_with_its_line(tmp_path: Path) -> None:
    ended = start_ranks(
        tmp_path, 2, [Job(TWO_RANKS, write_inputs(tmp_path), tmp_path / "run", hang=(2, 1, "loop"))], alone=True
    )
    assert ended.codes == [70, 70]
    named = r"RankLostError: rank 1 \(host .*\) hangs: an optimizer step has taken \d+ s, and it is at work in .*ranks"
    assert all(re.search(named, error) for error in ended.errors)
    assert "_hang" in ended.errors[1], "its stack is in its log"


@pytest.mark.slow
@pytest.mark.xdist_group("faults")
def test_a_collective_that_no_other_calls_ends_all(tmp_path: Path) -> None:
    ended = start_ranks(
        tmp_path, 2, [Job(TWO_RANKS, write_inputs(tmp_path), tmp_path / "run", hang=(2, 1, "collective"))], alone=True
    )
    assert 0 not in ended.codes
    assert all(re.search(r"RankLostError: rank \d .* hangs: .* has waited in", error) for error in ended.errors)
    assert "in recv" in ended.errors[1]
