"""A campaign by its name: what was asked for is remembered, wherever the next question comes from."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.preflight import checks
from msm_hpc.campaign.session import Session
from msm_hpc.config.compose import OWN_FOLDER, choices
from msm_hpc.store.campaigns import read_campaign, write_campaign

MINE = "# @package _global_\ndefaults: [demo, _self_]\ncampaign: {name: mine, specs: [{name: america}]}\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a campaign that was run in another folder, with a configuration folder and a corpus there."""
    folder = tmp_path / "there"
    (folder / "own" / "campaign").mkdir(parents=True)
    (folder / "own" / "campaign" / "mine.yaml").write_text(MINE)
    (folder / "docs.jsonl").write_text('{"text": "One ."}\n')
    monkeypatch.chdir(folder)
    monkeypatch.setenv(OWN_FOLDER, str(folder / "own"))
    overrides = ("campaign=mine", "sources.documents.files.america=docs.jsonl", f"root={tmp_path}/runs")
    session(*overrides).remember()
    monkeypatch.delenv(OWN_FOLDER)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def session(*overrides: str, name: str | None = None) -> Session:
    return Session(overrides, Console(), name)


def test_what_is_about_to_run_remembers_its_files(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "check", lambda *_: checks.Found((), (), {}))
    ready = session(f"root={mine}", name="mine").ready()
    write_campaign(mine, replace(read_campaign(mine, "mine"), files={}))
    ready.remember()
    corpus = mine.parent / "there" / "docs.jsonl"
    known = read_campaign(mine, "mine").files[str(corpus)]
    corpus.unlink()
    again = session(f"root={mine}", name="mine")
    assert again.graph.ids == ready.graph.ids and again.external.files[str(corpus)] == known


def test_layouts_of_several_models_are_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "check", lambda *_: checks.Found((), (), {}))
    asked = ["campaign=scaling", "cluster=h200", f"root={tmp_path}"]
    for models, lines in (("[qwen2_5_0_5b,qwen3_0_6b]", 1), ("[qwen3_0_6b]", 2)):
        said = io.StringIO()
        ready = Session((*asked, f"campaign.models={models}"), Console(file=said)).ready()
        assert all(not ready.config.stages[name].layout.auto for name in ready.config.stages_used)
        assert said.getvalue().count("layout=auto") == lines


def test_a_name_is_enough_from_any_folder(mine: Path) -> None:
    again = session(f"root={mine}", name="mine")
    assert again.config.sources["documents"].files == {"america": mine.parent / "there" / "docs.jsonl"}
    assert session(f"root={mine}").graph.report is not None, "the only one there"


def test_more_overrides_are_composed_with_those_that_were_given(mine: Path) -> None:
    changed = session(f"root={mine}", "stages.aft.epochs=3", name="mine")
    assert changed.config.stages["aft"].epochs == 3
    assert changed.config.sources["documents"].files == {"america": mine.parent / "there" / "docs.jsonl"}
    changed.remember()
    assert session(f"root={mine}", "stages.aft.epochs=4", name="mine").record is not None
    record = session(f"root={mine}", name="mine").record
    assert record is not None and record.config_dir == str(mine.parent / "there" / "own")
    assert [override.partition("=")[0] for override in record.overrides] == [
        "campaign",
        "sources.documents.files.america",
        "stages.aft.epochs",
    ]


def test_a_damaged_record_is_named_and_does_not_stop_a_composed_campaign(mine: Path) -> None:
    (mine / "campaigns" / "mine.json").write_text("{")
    with pytest.raises(UserError, match=r"mine\.json is damaged .*; run the campaign again with campaign=NAME"):
        _ = session(f"root={mine}", name="mine").configs
    (mine / "campaigns" / "demo.json").write_text("{")
    assert session("campaign=demo", f"root={mine}").graph.report is not None


def test_what_was_never_run_is_not_known_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no campaign 'demo' was run below root=.*; those that were: none.*campaign=demo where"
    ):
        _ = session(f"root={tmp_path}", name="demo").configs
    known = ", ".join(choices("campaign"))
    with pytest.raises(UserError, match=rf"which campaign\? compose one with campaign=NAME; there are {known}"):
        _ = session(f"root={tmp_path}").configs
    with pytest.raises(UserError, match=r"unknown key 'campain'; did you mean 'campaign'\?"):
        _ = session(f"root={tmp_path}", "campain=demo").configs


def test_what_was_only_rehearsed_is_not_found_with_where_it_lies(mine: Path) -> None:
    mine.rename(mine.parent / "rehearsal")
    root = mine.parent
    there = rf"Rehearsed here, and to be asked about with root={root / 'rehearsal'}: mine$"
    for name in ("mine", None):
        with pytest.raises(UserError, match=there):
            _ = session(f"root={root}", name=name).configs
    with pytest.raises(UserError, match=r"still to be run$"):
        _ = session(f"root={root}", name="demo").configs
    assert session(f"root={root / 'rehearsal'}", name="mine").configs
