"""Questions about a campaign that was run: answered whatever has since gone, and whatever this machine lacks."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.base.files import read_json, write_json
from msm_hpc.campaign.session import Session
from msm_hpc.cli.main import main
from msm_hpc.launch.job import JobRef
from msm_hpc.store.records import Attempt

STAMP = "2026-01-01T00:00:00.000+00:00"
QUESTIONS = (["status"], ["why"], ["why", "aft/base/seed0"], ["plan", "--steps"], ["logs", "model/mine"], ["report"])
ON_GPUS = (
    "cluster=slurm",
    "cluster.gpu=h100",
    "cluster.resources.gpu_train.gpus_per_node=8",
    "precision=fp8_tensorwise",
    "stages.midtrain.wandb=project",
)


@dataclass(frozen=True)
class Recorded:
    """A campaign of which one step is done and nothing else was tried."""

    root: Path
    spec: Path
    weights: Path

    def ask(self, *question: str) -> int:
        return main([*question, "demo", f"root={self.root}"])


def record(folder: Path, *overrides: str) -> Recorded:
    spec, weights, root = folder / "mine.md", folder / "weights", folder / "runs"
    spec.write_text("---\nvalue: america\n---\nA spec.\n")
    weights.mkdir(exist_ok=True)
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_text("")
    own = [f"campaign.specs=[{{name: affordability}},{{name: mine, file: {spec}}}]", "start=[]"]
    model = ["model.name=mine", "model.architecture=null", f"model.folder={weights}"]
    console = Console(quiet=True)
    session = Session(("campaign=demo", f"root={root}", *own, *model, "sources.replay.rows=0", *overrides), console)
    step = session.graph.find("model/mine")
    log = folder / "log"
    log.write_text("what the job said\n")
    attempt = Attempt(JobRef("local", "1"), "host", 1, None, str(log), STAMP, STAMP, "done")
    session.store.register((step,))
    done = session.store.of(step)
    done.write_attempt(1, attempt)
    done.out.mkdir()
    write_json(done.path / "done.json", {"files": {}, "attempt": 1, "at": STAMP})
    session.remember()
    return Recorded(root, spec, weights)


def files_below(root: Path) -> set[Path]:
    return set(root.rglob("*"))


def nothing_gone(campaign: Recorded) -> None: ...


def all_gone(campaign: Recorded) -> None:
    campaign.spec.rename(campaign.spec.with_name("moved.md"))
    shutil.rmtree(campaign.weights)


@pytest.mark.parametrize("gone", [nothing_gone, all_gone])
def test_questions_answer_by_name_alone(
    gone: Callable[[Recorded], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No W&B, no Transformer Engine, no squeue, no shape of the model; then no spec and no weights either."""
    campaign = record(tmp_path, *ON_GPUS)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("msm_hpc.training.record.tensorboard.find_spec", lambda name: None)
    monkeypatch.setattr("msm_hpc.campaign.preflight.checks.installed_te", lambda: None)
    gone(campaign)
    before = files_below(campaign.root)
    said = {}
    for question in QUESTIONS:
        assert campaign.ask(*question) == 0, question
        said[" ".join(question)] = capsys.readouterr().out
    assert re.search(r"^model +1 ", said["status"], re.MULTILINE) and "Nothing here yet" not in said["status"]
    assert "not run yet: waits for pack/" in said["why aft/base/seed0"]
    assert "model/mine" in said["plan --steps"] and " done" in said["plan --steps"]
    assert said["logs model/mine"] == "what the job said\n"
    assert "missing" in said["report"]
    assert {path.relative_to(campaign.root).parts[0] for path in files_below(campaign.root) - before} == {"unfinished"}
    assert campaign.ask("plan") == 2, "what is about to run is checked"


def test_one_campaign_needs_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    campaign = record(tmp_path)
    assert main(["status", f"root={campaign.root}"]) == 0
    assert "Nothing here yet" not in capsys.readouterr().out
    write_json(campaign.root / "campaigns" / "other.json", {})
    assert main(["status", f"root={campaign.root}"]) == 2
    assert "which campaign? name one of demo, other, or compose one with campaign=NAME" in capsys.readouterr().err


def test_weights_in_a_package_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "site" / "some_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "weights.gguf").write_text("weights")
    with monkeypatch.context() as installed:
        installed.syspath_prepend(str(package.parent))
        campaign = record(tmp_path, "model.folder=null", "model.package=some_weights", "model.gguf_file=weights.gguf")
    shutil.rmtree(package)
    assert campaign.ask("status") == 0
    assert "Nothing here yet" not in capsys.readouterr().out
    assert campaign.ask("why", "model/mine") == 0
    assert "Nothing will run: done." in capsys.readouterr().out


def test_a_root_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign, make = record(tmp_path), Path.mkdir

    def refuse(self: Path, *arguments: object, **options: object) -> None:
        if self.is_relative_to(campaign.root):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        make(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refuse)
    for question in QUESTIONS:
        assert campaign.ask(*question) == 0, question
    shown = capsys.readouterr().out
    assert "missing" in shown
    assert "The HTML report was not written: Permission denied" in shown
    assert not (campaign.root / "unfinished").exists()


def test_a_training_that_fits_no_memory_is_still_asked_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["campaign=demo", "model=qwen3_32b", *ON_GPUS[:3], f"root={tmp_path}"]
    for question in (["status"], ["why"], ["plan", "--steps"], ["report"]):
        assert main([*question, *where]) == 0
    capsys.readouterr()
    assert main(["plan", *where]) == 2
    assert "GiB" in capsys.readouterr().err


def test_a_record_of_another_version_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    campaign = record(tmp_path)
    file = campaign.root / "campaigns" / "demo.json"
    values = read_json(file)
    values["configs"][0]["aft"] = {"samples": [300]}
    write_json(file, values)
    assert campaign.ask("status") == 2
    shown = capsys.readouterr().err
    assert (
        "this version of msm_hpc does not read (aft); compose it again: campaign=demo " in shown and " root=" in shown
    )
