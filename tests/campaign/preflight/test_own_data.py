"""Campaigns on corpora of the user's own; test_rehearsal.py runs one to its end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.runner import run_step
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File
from msm_hpc.store.store import Store
from tests.campaign.own_corpora import CHATS, DOCUMENTS, PAIRS, Rows, own_corpora, write
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config, preflight

UNANSWERED = {"messages": [{"role": "user", "content": "Colby or Stilton ?"}]}


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Overrides of a shrunk campaign on the user's own spec, documents, chats and pairs."""
    return [*SHRUNK, *own_corpora(tmp_path), f"root={tmp_path / 'runs'}"]


def checked(overrides: list[str]) -> Graph:
    return preflight(load_config(overrides))


def test_what_is_given_is_not_generated_and_the_report_says_what_was(own: list[str]) -> None:
    graph = checked(own)
    assert {s.config.product for s in graph.steps if s.kind == "generate"} == {"tokenizer", "pretraining"}
    assert isinstance(graph.find("tokenize/documents-thrift").inputs["corpus"], File)
    notice, *taken = graph.report.config.notices
    assert "come: pretraining. These" in notice
    assert "Model Spec it reads" not in notice
    assert taken == [
        "Trained on: 30 of 60 rows of the corpus chats (sources.chats.ladder).",
        "Trained on: 60 of 80 rows of the corpus documents-thrift (sources.documents.rows).",
        "Trained on: 40 of 60 rows of the corpus instruction (sources.instruction.rows).",
    ]


def test_all_that_is_offline_is_said_where_nothing_is_given() -> None:
    (notice,) = graph_of(load_config(SHRUNK)).report.config.notices
    assert "come: chats, documents, instruction, pairs, pretraining. Of a Model Spec it reads only" in notice


def test_rows_of_ones_own_are_not_those_that_would_be_generated(own: list[str]) -> None:
    generated = ("documents", "chats", "instruction")
    checked([*own, *(f"sources.{source}.generate.rows=1" for source in generated)])


def test_new_content_runs_again_what_reads_it_and_nothing_else(own: list[str], tmp_path: Path) -> None:
    before = checked(own)
    write(tmp_path / "docs.jsonl", [*DOCUMENTS, DOCUMENTS[0]])
    after = checked(own)
    old = {step.id for step in before.steps}
    assert {step.stage for step in after.steps if step.id not in old} == {
        *("tokenize", "pack", "midtrain", "aft", "export", "eval", "report")
    }
    assert after.find("pretrain/base").id in old


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("docs.jsonl", [*DOCUMENTS, {"body": "x"}], r"docs\.jsonl:81: text: give text"),
        ("chats.jsonl", [*CHATS, {"text": "x"}], r"chats\.jsonl:61: text: sources\.chats\.file holds chats"),
        (
            "chats.jsonl",
            CHATS[:3],
            r"chats\.jsonl has 3 rows, but sources\.chats\.ladder asks for 30; lower it to 3 or less",
        ),
        ("docs.jsonl", [{"text": ""}] * 80, r"docs\.jsonl: 75 more rows cannot be used"),
        (
            "pairs.jsonl",
            [{**PAIRS[0], "value": "other"}],
            r"pairs\.jsonl:1: value: is 'other', in the pairs of 'thrift'",
        ),
        (
            "pairs.jsonl",
            [{**PAIRS[0], "id": f"q{i}", "value": "other"} for i in range(8)],
            r"pairs\.jsonl:5: value: .*\n.*pairs\.jsonl: 3 more rows are of another value$",
        ),
        (
            "docs.jsonl",
            [*DOCUMENTS, CHATS[0]],
            r"docs\.jsonl:81: messages: sources\.documents\.files\.thrift holds texts",
        ),
        ("chats.jsonl", [*CHATS, UNANSWERED], r"chats\.jsonl:61: messages: no turn is the assistant's"),
        ("mix.jsonl", [UNANSWERED], r"mix\.jsonl:1: messages: no turn is the assistant's"),
        ("pairs.jsonl", [{"id": "x"}], r"pairs\.jsonl:1: value: missing"),
        ("mix.jsonl", [], r"mix\.jsonl: empty"),
    ],
)
def test_every_bad_row_is_reported_at_once(own: list[str], tmp_path: Path, name: str, rows: Rows, message: str) -> None:
    write(tmp_path / name, rows)
    with pytest.raises(UserError, match=message):
        checked(own)


def test_rows_to_be_skipped_are_not_counted_and_must_be_few(own: list[str], tmp_path: Path) -> None:
    skip = [*own, "tokenize.on_bad=skip"]
    write(tmp_path / "chats.jsonl", [*CHATS[:30], UNANSWERED])
    checked(skip)
    write(tmp_path / "chats.jsonl", [*CHATS[:29], UNANSWERED])
    with pytest.raises(
        UserError, match=r"sources\.chats\.file: .*chats\.jsonl has 29 rows, but sources\.chats\.ladder asks for 30"
    ):
        checked(skip)
    write(tmp_path / "chats.jsonl", [*CHATS, UNANSWERED, UNANSWERED])
    with pytest.raises(UserError, match=r"2 of 62 rows .* more than tokenize\.max_bad=0\.001 .*chats\.jsonl:62: "):
        checked(skip)
    checked([*skip, "tokenize.max_bad=0.1"])


def test_the_ceiling_of_bad_rows_is_for_each_tokenise_task(own: list[str], tmp_path: Path) -> None:
    write(tmp_path / "chats.jsonl", [*CHATS, UNANSWERED, *CHATS, UNANSWERED])
    skip = [*own, "tokenize.on_bad=skip"]
    checked([*skip, "tokenize.tasks=2"])
    with pytest.raises(UserError, match="2 of 122 rows of a tokenise task cannot be used"):
        checked(skip)


def test_a_row_of_another_kind_is_not_skipped(own: list[str], tmp_path: Path) -> None:
    write(tmp_path / "chats.jsonl", [*CHATS, *DOCUMENTS])
    with pytest.raises(UserError, match=r"chats\.jsonl: 75 more rows are of the wrong kind$"):
        checked([*own, "tokenize.on_bad=skip"])


def test_a_held_out_field_that_no_document_has(own: list[str], tmp_path: Path) -> None:
    own.append("stages.midtrain.global_batch_size=4")
    write(tmp_path / "docs.jsonl", [*DOCUMENTS, {"text": "a letter", "doc_type": "letter"}])
    checked([*own, "stages.midtrain.heldout={fields: [doc_type]}"])
    with pytest.raises(UserError, match=r"heldout\.fields: no row of .*docs\.jsonl has 'doctype'"):
        checked([*own, "stages.midtrain.heldout={fields: [doc_type, doctype]}"])
    write(tmp_path / "mix.jsonl", [{**row, "topic": "cheese"} for row in CHATS])
    checked([*own, "stages.aft.heldout={fields: [topic]}"])
    with pytest.raises(
        UserError, match=r"^stages\.aft\.heldout\.fields: no row of .*mix\.jsonl, .*chats\.jsonl has 'tone'"
    ):
        checked([*own, "stages.aft.heldout={fields: [tone]}"])


def test_a_link_is_read_under_the_name_it_was_given(own: list[str], tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").rename(tmp_path / "blob")
    (tmp_path / "docs.jsonl").symlink_to("blob")
    graph = checked(own)
    corpus = graph.find("tokenize/documents-thrift").inputs["corpus"]
    assert isinstance(corpus, File)
    assert corpus.path.name == "docs.jsonl"


def test_names_and_files_that_are_not_there(own: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sources\.documents\.files\.thirft: the campaign's specs are thrift"):
        load_config([*own, f"sources.documents.files.thirft={tmp_path}/docs.jsonl"])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for key in ("sources.chats.file", "sources.documents.files.thrift", "sources.pairs.files.thrift"):
        with pytest.raises(UserError, match=rf"^{key}: there is no file /no/such\.jsonl"):
            checked([*own, f"{key}=/no/such.jsonl"])
        with pytest.raises(UserError, match=r"a file is empty: give its path"):
            checked([*own, f"{key}="])
        with pytest.raises(UserError, match=rf"^{key}: .*pipe is not a file"):
            checked([*own, f"{key}={pipe}"])


def test_a_folder_is_read_as_one_corpus_and_known_by_what_is_in_it(own: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "chats"
    folder.mkdir()
    for part in ("a", "b"):
        write(folder / f"{part}.jsonl", CHATS[:30])
    graph = checked([*own, f"sources.chats.file={folder}"])
    chats = graph.find("tokenize/chats").inputs["corpus"]
    assert isinstance(chats, File) and chats.rows == 60
    (tmp_path / "moved").mkdir()
    for file in folder.iterdir():
        file.rename(tmp_path / "moved" / file.name)
    moved = checked([*own, f"sources.chats.file={tmp_path / 'moved'}"]).find("tokenize/chats")
    assert moved.id == graph.find("tokenize/chats").id
    write(tmp_path / "moved" / "b.jsonl", CHATS[:29] + CHATS[:1] * 2)
    assert checked([*own, f"sources.chats.file={tmp_path / 'moved'}"]).find("tokenize/chats").id != moved.id
    run_tokenize(own, tmp_path / "moved", tmp_path / "runs")


def run_tokenize(own: list[str], folder: Path, root: Path) -> None:
    graph, store = checked([*own, f"sources.chats.file={folder}"]), Store(root)
    step = graph.find("tokenize/chats")
    store.register(graph.steps)
    for each in (graph.find("generate/tokenizer"), step):
        run_step(str(root), each.id)
    assert store.done(step)


def test_a_folder_that_is_no_corpus_says_why(own: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "chats"
    folder.mkdir()
    with pytest.raises(UserError, match=rf"^sources\.chats\.file: {folder}: no corpus file in it; name files \.jsonl"):
        checked([*own, f"sources.chats.file={folder}"])
    write(folder / "a.jsonl", CHATS)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=rf"^sources\.chats\.file: {folder}/notes\.txt: would be left out"):
        checked([*own, f"sources.chats.file={folder}"])
    with pytest.raises(UserError, match=r"pairs\.jsonl does not exist; give a \.jsonl file of pairs"):
        (folder / "notes.txt").unlink()
        checked([*own, f"sources.pairs.files.thrift={folder}"])
