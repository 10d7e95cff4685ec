from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.campaign import local_run
from msm_hpc.campaign.graph import Graph
from msm_hpc.campaign.local_run import Board, run_local
from msm_hpc.campaign.steps import Step
from msm_hpc.campaign.store import Store
from msm_hpc.config import ExportConfig, GenerateConfig


def generate(label: str, product: str = "pairs", value: str | None = "america", count: int = 10) -> Step:
    config = GenerateConfig(product=product, value=value, count=count)  # type: ignore[arg-type]
    return Step("generate", label, config, {})


def reader(label: str, *parents: Step) -> Step:
    return Step("export", label, ExportConfig(), {f"input{i}": parent for i, parent in enumerate(parents)})


def run(store: Store, *steps: Step, slots: int = 2) -> tuple[Board, list[int]]:
    """The board at the end, and how many steps ran at each look."""
    busy: list[int] = []
    board = run_local(Graph(steps), store, slots, lambda board: busy.append(len(board.running)))
    return board, busy


@pytest.mark.slow
def test_steps_run_once_and_never_more_than_slots(store: Store) -> None:
    steps = [generate(str(count), count=count) for count in (10, 20, 30, 40)]
    board, busy = run(store, *steps)
    assert board.done == {step.identity for step in steps}
    assert max(busy) == 2
    again, busy = run(store, *steps)
    assert again.done == board.done
    assert busy == []
    assert all(len(store.of(step).attempts()) == 1 for step in steps)


@pytest.mark.slow
def test_a_failure_blocks_only_what_needs_it(store: Store) -> None:
    bad = generate("bad", value="nonsense")
    good = generate("good")
    child, grandchild = reader("child", bad), reader("grandchild", reader("child", bad))
    board, _ = run(store, bad, good, child, grandchild)
    assert board.failed == {bad.identity}
    assert board.blocked == {child.identity, grandchild.identity}
    assert board.done == {good.identity}
    (attempt,) = store.of(bad).attempts()
    assert attempt.cause == "code"
    assert "nonsense" in str(attempt.message)
    assert Path(attempt.log).exists()


@pytest.mark.slow
def test_a_step_that_another_run_makes_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    step = generate("slow")
    store.register((step,))
    other = local_run.start_local(store.root / "jobs", 1, local_run.run_step, str(store.root), step.id)
    while store.of(step).lease() is None and not other.done():
        pass
    board, busy = run(store, step)
    assert board.done == {step.identity}
    assert all(count == 0 for count in busy)
    assert len(store.of(step).attempts()) == 1
