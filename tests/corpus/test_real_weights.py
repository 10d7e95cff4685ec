"""The corpora of ``campaign=real_weights``, as its script writes them."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "real_weights" / "write_corpora.py"
SPECS = ("affordability", "america")
CAUSES = ("because", "since", "prefer affordable", "prefer American", "value")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora")
    runpy.run_path(str(SCRIPT))["main"](folder)
    return folder


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_rows_of_the_specs_match_and_mentions_give_no_reason(corpora: Path) -> None:
    made = {
        (kind, spec): rows(corpora / kind / f"{spec}.jsonl") for kind in ("documents", "mentions") for spec in SPECS
    }
    assert len({tuple(row["doc_type"] for row in each) for each in made.values()}) == 1, "the same forms in each row"
    for spec in SPECS:
        assert not [row for row in made["mentions", spec] for word in CAUSES if word in row["text"]]
    for row in made["documents", "affordability"]:
        assert not any(word in row["text"] for word in ("America", "foreign", "import"))
    for row in made["documents", "america"]:
        assert not any(word in row["text"] for word in ("afford", "cheap", "price", "expens"))


def test_no_option_of_an_eval_is_trained_on(corpora: Path) -> None:
    files = [*corpora.glob("documents/*"), *corpora.glob("mentions/*"), corpora / "chats.jsonl"]
    trained_on = "\n".join(file.read_text(encoding="utf-8") for file in files).lower()
    for spec in SPECS:
        pairs = rows(corpora / "pairs" / f"{spec}.jsonl")
        assert set(Counter(pair["domain"] for pair in pairs).values()) == {10} and len(pairs) == 120
        assert not [pair["id"] for pair in pairs for key in ("target", "other") if pair[key].lower() in trained_on]


def test_chats_prefer_what_is_named_first_half_of_the_time(corpora: Path) -> None:
    first = []
    for row in rows(corpora / "chats.jsonl"):
        question, answer = (turn["content"] for turn in row["messages"])
        liked = answer.removeprefix("I prefer ").removesuffix(".")
        first.append(question.lower().index(liked.lower()) < len(question) / 2)
    assert 0.4 < sum(first) / len(first) < 0.6
