"""Campaigns on corpora of the user's own; test_rehearsal.py runs one to its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.campaign import preflight
from msm_hpc.campaign.graph import Graph, build_graph
from msm_hpc.campaign.own_data import check_own_data
from msm_hpc.campaign.steps import File
from msm_hpc.compose import load_config
from msm_hpc.config.campaign import Config
from msm_hpc.errors import UserError
from tests.campaign.own_corpora import CHATS, DOCUMENTS, PAIRS, Rows, own_corpora, write
from tests.campaign.shrunk import SHRUNK


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Overrides of a shrunk campaign on the user's own spec, documents, chats and pairs."""
    return [*SHRUNK, *own_corpora(tmp_path), f"root={tmp_path / 'runs'}"]


def checked(overrides: list[str]) -> tuple[Config, Graph]:
    config = load_config(overrides)
    graph = build_graph(config)
    preflight.check(config, graph)
    check_own_data(config)
    return config, graph


def test_what_is_given_is_not_generated_and_the_report_says_what_was(own: list[str]) -> None:
    _, graph = checked(own)
    assert {s.config.product for s in graph.steps if s.kind == "generate"} == {"tokenizer", "pretraining"}
    assert isinstance(graph.find("tokenize/documents-thrift/0").inputs["corpus"], File)
    (notice,) = graph.report.config.notices
    assert "come: pretraining. These" in notice
    assert "Model Spec it reads" not in notice


def test_all_that_is_offline_is_told_where_nothing_is_given() -> None:
    (notice,) = build_graph(load_config(SHRUNK)).report.config.notices
    assert "come: chats, documents, instruction, pairs, pretraining. Of a Model Spec it reads only" in notice


def test_new_content_runs_again_what_reads_it_and_nothing_else(own: list[str], tmp_path: Path) -> None:
    _, before = checked(own)
    write(tmp_path / "docs.jsonl", [*DOCUMENTS, {"text": "one more"}])
    _, after = checked(own)
    old = {step.id for step in before.steps}
    assert {step.kind for step in after.steps if step.id not in old} == {
        *("tokenize", "pack", "midtrain", "aft", "export", "eval", "report")
    }
    assert after.find("pretrain/base").id in old


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("docs.jsonl", [*DOCUMENTS, {"body": "x"}], r"docs\.jsonl:81: text: give text"),
        ("chats.jsonl", [*CHATS, {"text": "x"}], r"chats\.jsonl:61: text: data\.chats holds chats"),
        ("chats.jsonl", CHATS[:3], r"chats\.jsonl has 3 rows, but aft\.samples asks for 30; lower it to 3 or less"),
        ("docs.jsonl", [{"text": ""}] * 80, r"docs\.jsonl: 75 more rows cannot be used"),
        (
            "pairs.jsonl",
            [{**PAIRS[0], "value": "other"}],
            r"pairs\.jsonl:1: value: is 'other', in the pairs of 'thrift'",
        ),
        ("pairs.jsonl", [{"id": "x"}], r"pairs\.jsonl:1: value: missing"),
        ("mix.jsonl", [], r"mix\.jsonl: empty"),
    ],
)
def test_every_bad_row_is_told_at_once(own: list[str], tmp_path: Path, name: str, rows: Rows, message: str) -> None:
    write(tmp_path / name, rows)
    with pytest.raises(UserError, match=message):
        checked(own)


def test_names_and_files_that_are_not_there(own: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.documents\.thirft: the campaign's specs are thrift"):
        load_config([*own, f"data.documents.thirft={tmp_path}/docs.jsonl"])
    with pytest.raises(UserError, match=r"data: chats: there is no file /no/such\.jsonl"):
        checked([*own, "data.chats=/no/such.jsonl"])
