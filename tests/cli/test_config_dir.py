"""A folder of configuration files of the user's own, searched before the shipped tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.cli.main import main
from msm_hpc.config.compose import OWN_FOLDER

FILES = {
    "campaign/mine.yaml": """
        # @package _global_
        defaults: [demo, override /arms: ours]
        campaign: {name: mine, title: Ours, arms: [only], contrast: [], specs: [{name: thrift}], values: [america]}
    """,
    "arms/ours.yaml": "only: [{midtrain: [documents]}, {aft: [chats]}]",
    "cluster/site.yaml": "{launcher: slurm, resources: {cpu: {partition: our-partition}}}",
    "spec/thrift.md": "---\nvalue: affordability\n---\nThrift.\n",
    "spec/america.md": "---\nvalue: honesty\n---\nOurs, not the shipped one.\n",
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(OWN_FOLDER, "")
    for name, text in FILES.items():
        file = tmp_path / "own" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(line.removeprefix("        ") for line in text.strip().splitlines()) + "\n")
    return tmp_path / "own"


def test_own_files_are_found_before_the_shipped_ones(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config-dir", str(own), "campaign=mine", "cluster=site", f"root={tmp_path / 'runs'}"]
    assert main(["plan", "--steps", "--scripts", *options]) == 0
    shown = capsys.readouterr().out
    assert "midtrain/thrift/only/seed0" in shown and "aft/base/seed0" not in shown
    assert "#SBATCH --partition=our-partition" in shown

    assert main(["plan", *options, "campaign.specs=[{name: america}]"]) == 2
    assert f"{own}/spec/america.md: value: the offline_toy generator knows" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_one_message(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config-dir", f"{own}/no", "campaign=demo"]) == 2
    assert f"msm: MSM_CONFIG (--config-dir) is {own}/no: there is no such folder" in capsys.readouterr().err


def test_msm_alone_lists_the_choices(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(OWN_FOLDER, str(own))
    assert main([]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Usage: msm" in shown
    assert "demo_ladder, mine, own" in shown and "cluster= h200, local, nemo_run, site, slurm" in shown
