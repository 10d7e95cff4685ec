from __future__ import annotations

from pathlib import Path

from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.views.left_out import left_out
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
    assert left_out(graph, store) == ()
    store.register(graph.steps)
    for step in (graph.find("generate/tokenizer"), *pack.inputs["shards"].values(), pack):
        run_step(str(store.root), step.id)
    out = store.of(pack.inputs["shards"]["instruction"]).out
    assert left_out(graph, store) == (
        f"instruction: 1 of 62 rows were skipped; {out} lists them (rejected.jsonl)",
        "instruction: 1 of 61 chats are longer than sequence_length 96 and were left out",
    )
    (out / "manifest.json").unlink()
    assert len(left_out(graph, store)) == 1
