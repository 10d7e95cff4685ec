"""What the shell completes: commands, campaigns that were run, and the choices of a group."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from msm_hpc.cli.main import main
from msm_hpc.config.compose import choices

Complete = Callable[..., set[str]]
CAMPAIGNS = set(choices("campaign"))


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    (tmp_path / "campaigns").mkdir()
    for name in ("mine", "yours"):
        (tmp_path / "campaigns" / f"{name}.json").write_text("{}")

    def ask(shell: str, *words: str) -> set[str]:
        """What is offered for the last word; bash has split the words at each ``=``."""
        line = ["msm", *(word.replace("ROOT", str(tmp_path)) for word in words)]
        monkeypatch.setenv("_MSM_COMPLETE", f"complete_{shell}")
        monkeypatch.setenv("COMP_WORDS", "\n".join(line))
        monkeypatch.setenv("COMP_CWORD", str(len(line) - 1))
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", shlex.join(line[:-1]) + f" {line[-1]}")
        with pytest.raises(SystemExit):
            main()
        return set(capsys.readouterr().out.replace('"', " ").replace("(", " ").replace(")", " ").split())

    return ask


def test_commands(complete: Complete) -> None:
    assert complete("bash", "st") == {"status", "stage"}


def test_choices_of_a_group(complete: Complete) -> None:
    assert complete("bash", "run", "campaign", "=") == CAMPAIGNS
    assert complete("bash", "run", "campaign", "=", "demo") == {"demo", "demo_ladder"}
    assert complete("bash", "plan", "campaign", "=", "demo", "cluster", "=", "sl") == {"slurm"}
    assert {f"campaign={name}" for name in CAMPAIGNS} <= complete("zsh", "run", "campaign=")
    assert complete("bash", "run", "stages", "=") == set()


def test_campaigns_that_were_run(complete: Complete) -> None:
    assert complete("bash", "status", "root", "=", "ROOT", "") == {"mine", "yours"}
    assert complete("bash", "cancel", "root", "=", "ROOT", "m") == {"mine"}
    assert "yours" in complete("zsh", "status", "root=ROOT", "y")


def test_a_folder_that_is_not_there_is_no_error(complete: Complete, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSM_CONFIG", "/no/such/folder")
    assert complete("bash", "run", "campaign", "=") == set()
