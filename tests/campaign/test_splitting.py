"""Shares that are left half-done are split over free workers, and nothing that was done for them is done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.base.files import sha256_of, write_json
from msm_hpc.campaign.array_requests import SubmissionPlan
from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.slurm_run import plan_submission, submit
from msm_hpc.campaign.splitting import further_splits, over_free_workers
from msm_hpc.corpus.rows import DATA, SUMMARY, Made, RowFiles
from msm_hpc.endpoint import spent
from msm_hpc.endpoint.resuming import REPLIES
from msm_hpc.graph.build import Graph
from msm_hpc.graph.shares import in_shares, undivided
from msm_hpc.graph.steps import File, Step
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.splits import read_splits, write_splits
from msm_hpc.store.store import Store
from tests.corpus.fake_model_server import content
from tests.corpus.test_writing import ENDPOINT, OUTLINE, WRITE
from tests.endpoint import faulty_model_server
from tests.endpoint.faulty_model_server import KEY, MODEL, FaultyModelServer, serving
from tests.toy_slurm import ToySlurm, in_the_path

WHOLE = Step("write", "corpus", WRITE, {"spec": File(Path("/spec.md"), "spec")})
NO_JOB = JobRef("local", "1", "an end is recorded")


def graph_of(whole: Step = WHOLE, count: int = 4, splits: Mapping[str, int] | None = None) -> Graph:
    return Graph((in_shares(whole, count, lambda share: (splits or {}).get(share, 1)),))


def finish(store: Store, *steps: Step) -> None:
    for step in steps:
        (store.of(step).path / "out").mkdir(parents=True)
        write_json(store.of(step).path / "done.json", {"files": {}, "attempt": 1, "at": now()})


def tried(store: Store, share: Step, minutes: float, job: JobRef = NO_JOB, ended: bool = True) -> None:
    began, end = ((datetime.now(UTC) - timedelta(minutes=ago)).isoformat() for ago in (minutes, 0))
    cause = "rank lost" if ended else None
    store.of(share).write_attempt(1, Attempt(job, "n1", 1, None, "", began, end if ended else None, cause=cause))


def names(splits: Mapping[Step, int]) -> dict[str, int]:
    return {step.name: parts for step, parts in splits.items()}


def test_a_share_of_shares_has_its_own_borders_and_some_between() -> None:
    (before,) = graph_of().targets
    (whole,) = graph_of(splits={before.shares[2].id: 3}).targets
    assert (whole.identity, whole.shares[2].identity) == (before.identity, before.shares[2].identity)
    places = [(share.config.task, share.config.tasks) for share in undivided(whole)]
    assert places == [(0, 4), (1, 4), (6, 12), (7, 12), (8, 12), (3, 4)]
    assert [share.share_of for share in whole.shares[2].shares] == [whole.shares[2].id] * 3


def test_as_many_workers_as_were_asked_for_share_what_is_left(store: Store) -> None:
    graph = graph_of()
    (whole,) = graph.targets
    assert further_splits(graph, store) == {}, "nothing is done"
    finish(store, *whole.shares[:2])
    tried(store, whole.shares[2], minutes=60)
    assert names(further_splits(graph, store)) == {"write/corpus/2": 2, "write/corpus/3": 2}
    finish(store, whole.shares[2])
    assert names(further_splits(graph, store)) == {"write/corpus/3": 4}
    once = graph_of(splits={whole.shares[3].id: 4})
    left = [*undivided(once.targets[0])][3:]
    assert further_splits(once, store) == {}
    finish(store, *left[:3])
    tried(store, left[3], minutes=30)
    assert names(further_splits(once, store)) == {"write/corpus/3/3": 4}
    finish(store, left[3])
    assert further_splits(once, store) == {}, "what is left is to gather"


def test_what_is_soon_made_is_not_split(store: Store) -> None:
    graph = graph_of()
    (whole,) = graph.targets
    finish(store, *whole.shares[:3])
    tried(store, whole.shares[3], minutes=9)
    assert further_splits(graph, store) == {}
    tried(store, whole.shares[3], minutes=16)
    assert names(further_splits(graph, store)) == {"write/corpus/3": 3}


def test_a_share_that_a_job_has_is_left_alone(store: Store) -> None:
    graph = graph_of()
    (whole,) = graph.targets
    finish(store, *whole.shares[:2])
    tried(store, whole.shares[2], minutes=60)
    tried(store, whole.shares[3], minutes=60, job=local_job(), ended=False)
    store.of(whole.shares[3]).write_lease(local_job())
    assert names(further_splits(graph, store)) == {"write/corpus/2": 3}, "three of four workers are free"


def test_splits_are_read_by_all_and_a_torn_file_is_none(store: Store) -> None:
    assert read_splits(store.root) == {}
    write_splits(store.root, {"write/x": 4})
    assert read_splits(store.root) == {"write/x": 4}
    (store.root / "splits.json").write_text('{"write/x"')
    assert read_splits(store.root) == {}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyModelServer]:
    """The test server, which says what the fake model says."""
    monkeypatch.setattr(faulty_model_server, "_content", content)
    monkeypatch.setenv("TEST_KEY", KEY)
    with serving() as running:
        yield running


@pytest.fixture
def whole(server: FaultyModelServer, tmp_path: Path) -> Step:
    """A corpus that the test server writes."""
    file = tmp_path / "calm.md"
    file.write_text("---\nname: calm\n---\n# Calm\n## One {#one}\nThe assistant is calm.\n")
    spec, endpoint = File(file, sha256_of(file)), replace(ENDPOINT, model=MODEL, base_url=server.url, in_flight=3)
    endpoint = replace(endpoint, key_variable="TEST_KEY", price_out=1.0, budget=100.0)
    outline = Step("outline", "corpus", replace(OUTLINE, endpoint=endpoint), {"spec": spec})
    return Step("write", "corpus", replace(WRITE, endpoint=endpoint), {"spec": spec, "outline": outline})


def make(store: Store, *steps: Step) -> None:
    store.register(steps)
    for step in steps:
        run_step(str(store.root), step.id)


def stopped_at(rows: int) -> Callable[[RowFiles, Made], None]:
    left = iter(range(rows))

    def add(files: RowFiles, made: Made) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return add


def test_a_split_share_is_the_same_and_paid_for_once(
    server: FaultyModelServer, whole: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, store = Store(tmp_path / "undisturbed"), Store(tmp_path / "runs")
    make(undisturbed, *graph_of(whole, 2).steps)
    graph = graph_of(whole, 2)
    *before, last, gathered = graph.steps
    at_first = server.paid.total()
    make(store, *before)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RowFiles, "add", stopped_at(rows=4))
        make(store, last)
    saved = spent(store.of(last).attempt(1).out / REPLIES)[MODEL]
    write_splits(store.root, {last.id: 2})

    split = graph_of(whole, 2, read_splits(store.root))
    one, other = split.find(last.id).shares
    make(store, *(step for step in split.steps if not store.done(step)))
    for name in (DATA, SUMMARY):
        assert (store.of(gathered).out / name).read_bytes() == (undisturbed.of(gathered).out / name).read_bytes()
    assert server.paid.total() - at_first <= at_first + 2 * 3, "what was in flight, of drafts and revisions"
    money = sum(spent(store.of(each).out / REPLIES)[MODEL].money for each in (one, other))
    assert saved.money <= money <= spent(undisturbed.of(last).out / REPLIES)[MODEL].money * 1.5
    assert not store.of(last).attempt(1).out.exists()


def test_what_was_saved_of_a_step_counts_for_the_shares_that_it_is_made_in_since(
    server: FaultyModelServer, whole: Step, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    outline, alone = graph_of(whole, 1).steps
    make(store, outline)
    before = server.paid.total()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RowFiles, "add", stopped_at(rows=12))
        make(store, alone)
    make(store, *(step for step in graph_of(whole, 2).steps if not store.done(step)))
    assert len((store.of(whole).out / DATA).read_text().splitlines()) == 20
    assert server.paid.total() - before <= 40 + 3, "a draft and a revision of each, and what was in flight"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToySlurm]:
    with in_the_path(tmp_path / "slurm", monkeypatch) as toy:
        yield toy


def test_a_run_splits_and_another_that_began_before_does_not_split_again(tmp_path: Path, slurm: ToySlurm) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    base = ("campaign.arms=[base]", "campaign.contrast=[]", "tokenize.tasks=4")
    overrides = ("campaign=demo", "cluster=slurm", *base, f"root={root}")
    one, other = (Session(overrides, Console(record=True)) for _ in range(2))
    *made, last = other.graph.find("tokenize/instruction").shares
    finish(one.store, *made)
    tried(one.store, last, minutes=60)

    def run(session: Session) -> tuple[SubmissionPlan, list[str]]:
        cluster = session.config.cluster
        graph = over_free_workers(session).graph
        return submit(lambda: plan_submission("demo", graph, session.store, cluster), session.store, cluster, print)

    plan, _ = run(one)
    assert "Split over the workers that are free: tokenize/instruction/3 (4 parts)" in one.console.export_text(
        styles=False
    )
    parts = {step.name for array in plan.arrays for step in array.steps if step.share_of == last.id}
    assert parts == {f"tokenize/instruction/3/{part}" for part in range(4)}
    plan, ids = run(other)
    assert ids == [] and len(plan.running) == len(over_free_workers(one).graph.needed(one.store.done))
    assert read_splits(root) == {last.id: 4}
