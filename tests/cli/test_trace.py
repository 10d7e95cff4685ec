"""``msm trace``: from a cell of the results to code, data, checkpoints and jobs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.base.files import sha256_of
from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.launch.job import JobRef
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
from tests.toy_steps import make

SMALL = ("campaign.seeds=[0,1]", "campaign.arms=[init,msm+aft]")
CELL = "msm+aft/affordability/75/seed1"


@pytest.fixture
def made(store: Store, graph: Callable[..., Graph]) -> Graph:
    """A campaign of which every step is done, and one was tried twice."""
    found = graph(*SMALL)
    for number, step in enumerate(found.steps):
        tries = [("preempted", "n0"), ("done", "n1")] if step.name == "aft/affordability/msm+aft/75/seed1" else []
        for cause, host in tries or [("done", "n1")]:
            job = JobRef("slurm", f"{64 + number}_3")
            make(store, step, Attempt(job, host, 2, "0123456789abcdef0123-dirty", "", START, END, cause))
    return found


START, END = "2026-01-01T00:00:00.000+00:00", "2026-01-01T00:30:00.000+00:00"


@pytest.fixture
def trace(store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def ask(*arguments: str, code: int = 0) -> str:
        assert main(["trace", *arguments, "campaign=demo", *SMALL, f"root={store.root}"]) == code
        shown = capsys.readouterr()
        return shown.err if code else shown.out

    return ask


def test_a_cell_leads_to_code_data_checkpoint_and_jobs(made: Graph, store: Store, trace: Callable[..., str]) -> None:
    said = trace(CELL)
    lines = [line.strip("│├└─ \n") for line in said.splitlines()]
    assert lines[0] == "eval/affordability/msm+aft/75/seed1"
    aft = made.find("aft/affordability/msm+aft/75/seed1")
    at = lines.index("checkpoint: aft/affordability/msm+aft/75/seed1")
    assert lines[at + 1] == aft.id
    assert lines[at + 2].endswith("on n1, 2 ranks, 2.000 rank-hours, 2 attempts")
    assert lines[at + 3] == "code 0123456789ab-dirty, 2026-01-01T00:00"
    assert lines[at + 4] == f"result.txt sha256 {sha256_of(store.of(aft).out / 'result.txt')[:12]}"
    spec = next(line for line in lines if line.startswith("spec: "))
    assert spec.endswith("configs/spec/affordability.md")
    assert lines[lines.index(spec) + 1] == f"sha256 {sha256_of(Path(spec.removeprefix('spec: ')))[:12]}"
    assert "documents-america" not in said and "seed0" not in said
    assert any(line.endswith("(above)") for line in lines), "what several steps read is shown once"
    assert f"Results are in {store.root}/steps/ID/out" in said


def test_json_has_all_of_it_inputs_first(made: Graph, store: Store, trace: Callable[..., str]) -> None:
    found = json.loads(trace(CELL, "--json"))
    assert (found["campaign"], found["cell"]["arm"], found["cell"]["seed"]) == ("demo", "msm+aft", 1)
    steps = {step["id"]: step for step in found["steps"]}
    assert found["steps"][-1]["id"] == found["target"] == found["cell"]["step"]
    known: set[str] = set()
    for step in found["steps"]:
        assert {each["id"] for each in step["inputs"] if each["id"]} <= known
        known.add(step["id"])
    aft = steps[made.find("aft/affordability/msm+aft/75/seed1").id]
    assert aft["config"]["seed"] == 1 and aft["made_by"] == 2 and aft["rank_hours"] == 2
    assert [each["cause"] for each in aft["attempts"]] == ["preempted", "done"]
    assert aft["attempts"][1]["job"]["id"].endswith("_3") and aft["attempts"][1]["host"] == "n1"
    assert aft["files"]["result.txt"]["sha256"] == sha256_of(store.of(made.find(aft["id"])).out / "result.txt")


def test_a_step_is_traced_too_and_what_is_not_there_is_said(
    tmp_path: Path, graph: Callable[..., Graph], trace: Callable[..., str]
) -> None:
    said = trace("aft/affordability/msm+aft/75/seed1")
    assert said.startswith("aft/affordability/msm+aft/75/seed1\n") and "not made yet" in said
    (store, step) = Store(tmp_path), graph(*SMALL).find("aft/affordability/msm+aft/75/seed1")
    make(store, step, Attempt(JobRef("slurm", "64"), "n1", 1, None, "", START, END, "code"))
    assert "not made yet; attempts: 1, the last: code" in trace(step.name)
    assert "0 of " in said and json.loads(trace("model/tiny", "--json"))["cell"] is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "msm+aft/affordability",
            "'msm+aft/affordability' is 2 cells: msm+aft/affordability/75/seed0/tiny, msm+aft/aff",
        ),
        ("msm+aft/thrift", "no cell and no step is 'msm+aft/thrift'; cells are init/seed0/tiny, "),
        ("train/", "'train/' is the start of "),
    ],
)
def test_what_is_no_cell_is_said_with_those_there_are(name: str, message: str, trace: Callable[..., str]) -> None:
    assert message in trace(name, code=2)


def test_a_trace_without_a_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "campaign=demo"]) == 2
    assert "which cell? name it before campaign=demo, such as msm/america/seed0" in capsys.readouterr().err


def test_the_tree_fits_80_columns(made: Graph, trace: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Console(width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr("msm_hpc.cli.arguments.terminal", lambda: narrow)
    said = trace(CELL)
    lines = [line for line in said.splitlines() if "/steps/ID/out" not in line]  # the root's own name may be longer
    assert max(map(len, lines)) <= 80 and "…" not in said
