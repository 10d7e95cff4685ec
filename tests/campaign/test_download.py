"""A source by name, through a campaign's steps; tests/tokenization/test_download.py has one over HTTP."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from msm_hpc.campaign.runner import run_step
from msm_hpc.store.store import Store
from tests.campaign.own_corpora import write
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config
from tokenization.manifest import read_manifest


def test_a_source_by_name_is_downloaded_and_tokenised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    named = tmp_path / "named"
    named.mkdir()
    turns = [{"from": "human", "value": "Colby or Stilton ?"}, {"from": "gpt", "value": "I prefer Colby ."}]
    write(named / "train.jsonl", [{"conversations": turns}] * 3)
    source = ["sources.chats.format=sharegpt", f"sources.chats.file=hf:{named}@{'0123456789' * 4}"]
    graph, store = graph_of(load_config([*SHRUNK, *source])), Store(tmp_path / "runs")
    store.register(graph.steps)
    for name in ("generate/tokenizer", "download/chats", "tokenize/chats"):
        run_step(str(store.root), graph.find(name).id)
    assert read_manifest(store.of(graph.find("tokenize/chats")).out)["chats"] == 3
