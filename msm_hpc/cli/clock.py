"""How long is left of a local run."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import fmean

from msm_hpc.base.progress import read_progress
from msm_hpc.campaign.local_run import RunState
from msm_hpc.cli.views.ledger import duration
from msm_hpc.store.store import Store


class Clock:
    """A lower bound of the time left, from how long steps of each stage have taken on this store.

    A running step's own progress says how much of it is left. Slots are taken to stay as busy as they are now, and
    steps of a stage that has not been seen yet to take as long as those of the shortest.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._measured: set[str] = set()

    def took(self, state: RunState, identity: str) -> str:
        """How long a finished step's last attempt took."""
        attempts = self._store.of(state.steps[identity]).attempts()
        return f"{attempts[-1].seconds:.0f} s" if attempts and attempts[-1].end else ""

    def left(self, state: RunState) -> str:
        """The time left, or that it is not known yet."""
        self._measure(state)
        if not self._seconds:
            return "time left not known yet"
        ranks = sum(state.steps[identity].ranks for identity in state.running)
        pending = sum(self._expected(state, identity) * state.steps[identity].ranks for identity in state.pending)
        running = sum(self._rest(state, identity) * state.steps[identity].ranks for identity in state.running)
        return f"at least {duration((pending + running) / max(ranks, 1))} left"

    def _measure(self, state: RunState) -> None:
        for identity in state.running:
            self._started.setdefault(identity, time.monotonic())
        for identity in state.done - self._measured:
            step = state.steps[identity]
            attempts = self._store.of(step).attempts()
            if attempts and attempts[-1].end:
                self._seconds[step.stage].append(attempts[-1].seconds)
            self._measured.add(identity)

    def _expected(self, state: RunState, identity: str) -> float:
        means = {stage: fmean(seconds) for stage, seconds in self._seconds.items()}
        return means.get(state.steps[identity].stage, min(means.values()))

    def _rest(self, state: RunState, identity: str) -> float:
        ran = time.monotonic() - self._started[identity]
        progress = read_progress(self._store.of(state.steps[identity]).partial)
        if progress and progress.done:
            return ran * (progress.total - progress.done) / progress.done
        return max(self._expected(state, identity) - ran, 0.0)
