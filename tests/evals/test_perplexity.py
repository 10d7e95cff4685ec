"""Perplexity, on models that know by construction what comes next; and the paragraphs that ship."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_jsonl
from msm_hpc.base.scores import read_scores
from msm_hpc.config.evals import PerplexityConfig, PerplexityInputs
from msm_hpc.evals import perplexity
from msm_hpc.evals.held_out.paragraphs import paragraphs
from tests.evals.held_out import shared_with_specs
from tests.evals.test_evals import WORDS, bigram_model, random_model


def scored(tmp_path: Path, model: Path, documents: Path | None, **fields: Any) -> list[dict[str, Any]]:
    out = tmp_path / "out"
    out.mkdir()
    config = PerplexityConfig(eval="held_out", tokens_per_batch=12, **fields)
    perplexity.run(config, PerplexityInputs(model=model, documents=documents), out)
    rows: list[dict[str, Any]] = read_scores(out).to_pylist()
    return rows


def corpus(tmp_path: Path, *texts: str) -> Path:
    write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in texts])
    return tmp_path / "texts.jsonl"


def test_nats_a_token_by_hand(tmp_path: Path) -> None:
    """After ``very`` the bus has a logit of 2, and all else of 0: of a document each token but the first counts."""
    model = bigram_model(tmp_path / "model", {("very", "bus"): 2.0})
    rows = scored(tmp_path, model, corpus(tmp_path, "very bus", "train"))
    uniform, after_very = math.log(len(WORDS)), math.log(len(WORDS) - 1 + math.exp(2))
    assert [row["value"] for row in rows] == pytest.approx([((after_very - 2) + uniform) / 2, uniform], abs=1e-5)
    assert {(row["task"], row["metric"], row["group"], row["sample"]) for row in rows} == {
        ("held_out", "nll", "documents", 0)
    }
    assert [row["item"].split(":")[0] for row in rows] == ["0", "1"]


def test_only_the_first_documents_and_tokens_count(tmp_path: Path) -> None:
    model = bigram_model(tmp_path / "model", {("very", "bus"): 5.0})
    rows = scored(tmp_path, model, corpus(tmp_path, "train train very bus", "sleigh", "I"), count=2, longest=3)
    assert [row["value"] for row in rows] == pytest.approx([math.log(len(WORDS))] * 2, abs=1e-5)


def test_without_documents_the_paragraphs_that_ship_are_scored(tmp_path: Path) -> None:
    rows = scored(tmp_path, random_model(tmp_path / "model"), None, longest=8)
    assert [(row["item"], row["group"]) for row in rows] == [(each.id, each.kind) for each in paragraphs()]


def test_chats_and_what_is_damaged_are_refused(tmp_path: Path) -> None:
    model, file = random_model(tmp_path / "model"), tmp_path / "texts.jsonl"
    write_jsonl(file, [{"text": "bus"}, {"messages": [{"role": "user", "content": "bus"}]}])
    with pytest.raises(UserError, match=r"texts\.jsonl:2: a chat, and perplexity reads documents"):
        scored(tmp_path, model, file)
    write_jsonl(file, [{"text": "bus"}, {"text": 3}])
    (tmp_path / "out").rmdir()
    with pytest.raises(UserError, match=r"texts\.jsonl:2: text: "):
        scored(tmp_path, model, file)


def test_a_model_that_diverged_has_no_number(tmp_path: Path) -> None:
    model = bigram_model(tmp_path / "model", {("very", "bus"): float("nan")})
    with pytest.raises(UserError, match=r"document '0:.*' has no finite probability"):
        scored(tmp_path, model, corpus(tmp_path, "very bus"))


def test_a_hundred_paragraphs_of_five_kinds() -> None:
    texts = paragraphs()
    assert Counter(each.kind for each in texts) == dict.fromkeys(
        ("explanation", "story", "instructions", "letter", "report"), 20
    )
    assert len({each.id for each in texts}) == 100
    assert all(40 <= len(each.text.split()) <= 75 for each in texts)
    openings = Counter(" ".join(re.findall(r"\w+", each.text)[:4]) for each in texts)
    assert max(openings.values()) == 1
    assert not shared_with_specs("\n".join(each.text for each in texts))
