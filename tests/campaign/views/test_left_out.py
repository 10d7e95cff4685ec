from __future__ import annotations

from pathlib import Path

from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.views.left_out import left_out
from msm_hpc.config.stages import ReportInputs
from msm_hpc.graph.build import Graph
from msm_hpc.report.results import load_results
from msm_hpc.report.stage import run
from msm_hpc.store.store import Store
from tests.campaign.own_corpora import CHATS, own_corpora, write
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config


def test_what_was_skipped_and_what_was_too_long_is_counted(tmp_path: Path) -> None:
    own = [*SHRUNK, *own_corpora(tmp_path), "sources.instruction.rows=null"]
    own += ["tokenize.on_bad=skip", "tokenize.max_bad=0.1", f"root={tmp_path / 'runs'}"]
    long = {"messages": [*CHATS[0]["messages"], {"role": "user", "content": "Colby ? " * 100}]}
    write(tmp_path / "mix.jsonl", [*CHATS, long, {"text": ""}])
    graph, store = graph_of(load_config(own)), Store(tmp_path / "runs")
    pack = graph.find("pack/aft/chats+instruction/30/seed0")
    assert said(graph, store, tmp_path) == ()
    store.register(graph.steps)
    for step in (graph.find("generate/tokenizer"), *pack.inputs["shards"].values(), pack):
        run_step(str(store.root), step.id)
    out = store.of(pack.inputs["shards"]["instruction"]).out
    assert said(graph, store, tmp_path) == (
        f"instruction: 1 of 62 rows were skipped (1 empty); {out} lists them (rejected.jsonl)",
        "instruction: 1 of 61 chats are longer than sequence_length 96 and were left out",
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What no model was trained on" in page and "1 empty" in page and "61 chats" in page


def said(graph: Graph, store: Store, folder: Path) -> tuple[str, ...]:
    """What a report of no evaluation says."""
    assert graph.report is not None
    packed = {step.id: store.of(step).out for step in graph.steps if step.kind == "pack" and store.done(step)}
    run(graph.report.config, ReportInputs(evaluations={}, packed=packed), folder)
    return left_out(load_results(folder), graph, store)
