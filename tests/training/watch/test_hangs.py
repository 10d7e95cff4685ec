"""Which rank is named when all stand still."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from msm_hpc.training.watch.hangs import HANG_SECONDS, MOST_SECONDS, Pace, Place, Stand, hanging, here
from tests.training.ranks import Job, start_ranks
from tests.training.toy import TWO_RANKS, write_inputs

WORKS, WAITS, ELSEWHERE = Place("data:94", False), Place("distributed:3087", True), Place("distributed:12", True)


@pytest.mark.parametrize(
    ("stands", "named"),
    [
        ([Stand(WAITS, 1.0), Stand(WORKS, 9.0), Stand(WAITS, 2.0)], 1),
        ([Stand(WAITS, 3.0), Stand(WAITS, 3.0), Stand(ELSEWHERE, 1.0)], 2),
        ([Stand(WORKS, 5.0), Stand(WORKS, 2.0), Stand(WAITS, 1.0)], 1),
        ([Stand(WORKS, 1.0), Stand(WORKS, 2.0), Stand(WAITS, 9.0)], None),
    ],
    ids=["one works", "all wait", "two work", "none has waited for long"],
)
def test_the_one_that_works_is_named_then_the_first_to_stand(stands: list[Stand], named: int | None) -> None:
    assert hanging(stands, now=HANG_SECONDS + 5.0) == named


def test_a_place_that_is_heard_again_keeps_its_time() -> None:
    stand = Stand(WAITS, 1.0)
    assert stand.moved(Place.read(str(WAITS)), 6.0) == stand
    assert stand.moved(WORKS, 6.0) == Stand(WORKS, 6.0)


def test_the_main_thread_is_seen_at_work_from_another() -> None:
    seen: list[Place] = []
    thread = threading.Thread(target=lambda: seen.append(here()))
    thread.start()
    thread.join()
    assert not seen[0].waits and seen[0].line.startswith("threading:")


def test_a_step_is_overdue_by_the_longest_before_it_and_the_first_has_longer() -> None:
    pace = Pace()
    with pace.step():
        now = time.monotonic()
        assert pace.overdue(now + MOST_SECONDS - 1) is None
        assert pace.overdue(now + MOST_SECONDS + 1) is not None
    assert pace.overdue(now + 2 * MOST_SECONDS) is None, "no step runs"
    with pace.step():
        now = time.monotonic()
        assert pace.overdue(now + HANG_SECONDS - 1) is None and not pace.slow(now + HANG_SECONDS - 1)
        assert pace.slow(now + HANG_SECONDS + 1)
        assert pace.overdue(now + HANG_SECONDS + 1) == pytest.approx(HANG_SECONDS + 1, abs=1)
        pace.forgive(now + HANG_SECONDS)
        assert pace.overdue(now + HANG_SECONDS + 1) is None


@pytest.mark.slow
@pytest.mark.xdist_group("faults")
def test_a_rank_that_lives_but_hangs_is_named_with_its_place(tmp_path: Path) -> None:
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
