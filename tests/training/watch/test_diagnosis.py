"""What a rank concludes from what it has seen of the others; no rank is started."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msm_hpc.training.watch.diagnosis import (
    DONE,
    LIMIT_AFTER_SIGNAL_SECONDS,
    LIMIT_SECONDS,
    Kind,
    RankProcess,
    Sighting,
    Snapshot,
    Verdict,
    diagnose,
)
from msm_hpc.training.watch.hangs import HANG_SECONDS, CodeLine, Standing

NOW = 1000.0
RANKS = tuple(RankProcess(rank, "host", 100 + rank, 0.0) for rank in range(3))
WAITS, WORKS = CodeLine("distributed:3087", True), CodeLine("data:94", False)


def seen(*ages: float, own: int = 0, answered: float = NOW) -> Snapshot:
    """Ranks whose beats changed so many seconds ago, all at work."""
    sightings = tuple(Sighting(b"7 works data:94", NOW - age, Standing(WORKS, NOW - age)) for age in ages)
    return Snapshot(own, RANKS, sightings, answered)


def test_ranks_that_beat_are_well() -> None:
    assert diagnose(seen(0, 5, LIMIT_SECONDS), NOW, signalled=False, overdue=None) is None


def test_the_rank_that_fell_silent_first_is_lost() -> None:
    found = diagnose(seen(0, 70, 80), NOW, signalled=False, overdue=None)
    assert found is not None and (found.rank, found.kind) == (2, Kind.SILENT)
    assert found.message.startswith("rank 2 (host host, process 102) has given no sign of life for 80 s")


def test_a_rank_does_not_lose_itself_nor_one_that_is_done() -> None:
    late = seen(0, 80, 90, own=2)
    done = replace(late, sightings=(late.sightings[0], late.sightings[1].updated(DONE, NOW - 70), late.sightings[2]))
    assert diagnose(done, NOW, signalled=False, overdue=None) is None


def test_after_a_signal_there_is_less_time() -> None:
    age = LIMIT_AFTER_SIGNAL_SECONDS + 1
    assert diagnose(seen(0, age, 0), NOW, signalled=False, overdue=None) is None
    found = diagnose(seen(0, age, 0), NOW, signalled=True, overdue=None)
    assert found is not None and found.rank == 1


def test_a_store_that_does_not_answer_is_the_loss_of_rank_0_whatever_else_was_seen() -> None:
    found = diagnose(seen(70, 90, 70, own=2, answered=NOW - 61), NOW, signalled=False, overdue=None)
    assert found is not None and (found.rank, found.kind) == (0, Kind.SILENT)
    assert "holds the job's store, has not answered for 60 s" in found.message


def test_what_was_reported_goes_before_all_else() -> None:
    reported = Verdict(1, Kind.REPORTED, "rank 1 failed first: ValueError: no")
    found = diagnose(replace(seen(0, 0, 90), reported=reported), NOW, signalled=False, overdue=900.0)
    assert found is reported


@pytest.mark.parametrize(("overdue", "named"), [(None, None), (80.0, 1)])
def test_a_rank_hangs_only_in_a_step_that_is_overdue(overdue: float | None, named: int | None) -> None:
    waits, works = (Sighting(b"", NOW, Standing(line, NOW - HANG_SECONDS - 1)) for line in (WAITS, WORKS))
    found = diagnose(Snapshot(0, RANKS, (waits, works, waits), NOW), NOW, signalled=False, overdue=overdue)
    assert (found and found.rank) == named
    if found:
        assert found.kind is Kind.HANGS
        assert (
            "an optimizer step has taken 80 s, and it is at work in data:94, while 2 of 3 ranks wait" in found.message
        )


def test_where_all_wait_the_first_to_stand_still_hangs() -> None:
    sightings = tuple(Sighting(b"", NOW, Standing(WAITS, NOW - age)) for age in (80, 90, 85))
    found = diagnose(Snapshot(0, RANKS, sightings, NOW), NOW, signalled=False, overdue=90.0)
    assert found is not None and found.rank == 1
    assert "it has waited in distributed:3087 for 90 s, longer than any other rank" in found.message


def test_a_beat_that_is_read_again_is_no_sign_of_life() -> None:
    before = seen(50, 50, 50, answered=NOW - 5)
    after = before.heard([b"7 works data:94", b"8 works data:94", b"8 waits distributed:3087"], NOW)
    assert after.answered == NOW and [each.at for each in after.sightings] == [NOW - 50, NOW, NOW]
    assert [each.standing for each in after.sightings] == [
        Standing(WORKS, NOW - 50),
        Standing(WORKS, NOW - 50),
        Standing(WAITS, NOW),
    ]


def test_a_process_that_was_stopped_counts_from_when_it_runs_again() -> None:
    assert diagnose(seen(0, 500, 500, answered=NOW - 500).restarted(NOW), NOW, signalled=False, overdue=None) is None
