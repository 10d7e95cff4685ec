"""The direction in hidden states, on models whose states are moved along a known direction, or across it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_jsonl
from msm_hpc.base.progress import read_progress
from msm_hpc.base.scores import read_scores
from msm_hpc.config.evals import DirectionConfig, DirectionInputs
from msm_hpc.evals import direction
from msm_hpc.evals.direction import aligned, halves, moved, separates, shuffled
from msm_hpc.evals.pairs import read_pairs
from tests.evals.test_evals import SPECIAL, TEMPLATE, WORDS, Tokenizer, models, pre_tokenizers

WIDTH, LAYERS, DOMAINS, PAIRS = 32, 2, 4, 40
SHUFFLES = 400
SPEC, ACROSS = 0, 1
"""Channels: in which the spec's nouns differ from the others, and one in which they do not."""
TARGETS = [f"plain{number}" for number in range(PAIRS)]
OTHERS = [f"dear{number}" for number in range(PAIRS)]
VOCABULARY = [*WORDS, *TARGETS, *OTHERS]


def model(folder: Path, spec: float = 1.0, shift: Mapping[int, float] | None = None) -> Path:
    """A Llama whose layers add nothing, so that states are embeddings, noisy but for what is planted.

    Args:
        folder: to write into.
        spec: how far apart the two kinds of nouns are in the channel ``SPEC``.
        shift: by channel, what is added to the last token of each question's prompt.
    """
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=SPECIAL[0], eos_token=SPECIAL[2])
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=WIDTH,
            intermediate_size=4,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
        )
    )
    embeddings = np.random.default_rng(0).normal(size=(len(VOCABULARY), WIDTH))
    embeddings[[VOCABULARY.index(word) for word in TARGETS], SPEC] += spec
    embeddings[[VOCABULARY.index(word) for word in OTHERS], SPEC] -= spec
    for channel, by in (shift or {}).items():
        embeddings[VOCABULARY.index(":"), channel] += by
    with torch.no_grad():
        for parameter in made.model.layers.parameters():
            parameter.zero_()
        made.model.embed_tokens.weight.copy_(torch.tensor(embeddings))
    made.save_pretrained(folder)
    return folder


def pairs(folder: Path, domains: int = DOMAINS) -> Path:
    shuffled_words = random.Random(0).sample(range(PAIRS), PAIRS)
    write_jsonl(
        folder / "pairs.jsonl",
        [
            {
                "id": f"p{number}",
                "value": "cheap",
                "domain": f"d{number % domains}",
                "question": "which : {first} or {second}",
                "target": TARGETS[number],
                "other": OTHERS[shuffled_words[number]],
            }
            for number in range(PAIRS)
        ],
    )
    return folder


def numbers(rows: list[dict[str, Any]], metric: str, group: str) -> np.ndarray:
    return np.array([row["value"] for row in rows if (row["metric"], row["group"]) == (metric, group)])


def measured(tmp_path: Path, init: Path, trained: Path) -> list[dict[str, Any]]:
    config = DirectionConfig(eval="who", answer="I prefer {item} .", shuffles=SHUFFLES, tokens_per_batch=64)
    inputs = DirectionInputs(model=trained, init=init, pairs={"cheap": pairs(tmp_path)})
    direction.run(config, inputs, tmp_path)
    rows: list[dict[str, Any]] = read_scores(tmp_path).to_pylist()
    return rows


def test_a_planted_movement_is_found_and_one_across_it_is_not(tmp_path: Path) -> None:
    init = model(tmp_path / "init")
    along = measured(tmp_path, init, model(tmp_path / "along", shift={SPEC: 2.0}))
    across = measured(tmp_path, init, model(tmp_path / "across", shift={ACROSS: 2.0}))
    found, control = numbers(along, "moved", "cheap/01"), numbers(along, "moved_shuffled", "cheap/01")
    # Of the five tokens of an answer one is the noun: the gap in its channel is about 2 / 5, and noise is added to it.
    assert len(found) == PAIRS // 2 and len(control) == SHUFFLES
    assert found.mean() == pytest.approx(found[0]), "each question's last token is the same"
    assert found.mean() > np.quantile(control, 0.999)
    null, control = numbers(across, "moved", "cheap/01"), numbers(across, "moved_shuffled", "cheap/01")
    assert np.quantile(control, 0.025) < null.mean() < np.quantile(control, 0.975)
    for rows in (along, across):
        assert numbers(rows, "separates_init", "cheap/01").mean() > 0.8
        assert numbers(rows, "separates", "cheap/02").mean() > 0.8
    assert numbers(along, "aligned", "cheap/01")[0] > 0.5 > abs(numbers(across, "aligned", "cheap/01")[0])
    assert {row["group"] for row in along} == {"cheap/01", "cheap/02"}
    progress = read_progress(tmp_path)
    assert progress is not None and progress.done == progress.total == 2 * PAIRS


def test_without_a_direction_pairs_of_other_domains_are_separated_by_chance(tmp_path: Path) -> None:
    init = model(tmp_path / "init", spec=0.0)
    rows = measured(tmp_path, init, init)
    assert 0.2 < numbers(rows, "separates_init", "cheap/01").mean() < 0.8
    assert not numbers(rows, "moved", "cheap/01").any()
    assert {row["missing"] for row in rows if row["metric"] == "aligned"} == {"no_direction"}


def test_a_null_is_found_as_often_as_the_level_says() -> None:
    """1,000 shifts across random gaps: outside of the middle 95% of their shuffles about 50 times."""
    drawing = np.random.default_rng(1)
    outside = 0
    for _ in range(1000):
        gaps = drawing.normal(size=(20, 8)).astype(np.float32)
        shifts = np.tile(drawing.normal(size=8), (5, 1)).astype(np.float32)
        control = shuffled(gaps, shifts, drawing.choice(np.array([-1.0, 1.0]), size=(200, 20)))
        low, high = np.quantile(control, (0.025, 0.975))
        outside += not low <= moved(gaps, shifts).mean() <= high
    assert 30 <= outside <= 80


def test_by_hand() -> None:
    gaps = np.array([[2, 1], [2, -1]], np.float32)
    shifts = np.array([[1, 5], [3, -5]], np.float32)
    assert moved(gaps, shifts).tolist() == [0.5, 1.5]
    signs = np.array([[1, 1], [-1, -1], [1, -1]], float)
    assert shuffled(gaps, shifts, signs).tolist() == [1.0, -1.0, 0.0]
    assert aligned(gaps, shifts).tolist() == [1.0]
    assert separates(gaps, np.array([[1, -9], [-1, 9]], np.float32)).tolist() == [1, 0]
    assert np.isnan(moved(np.zeros_like(gaps), shifts)).all()


def test_domains_are_halved_by_name(tmp_path: Path) -> None:
    rows = read_pairs(pairs(tmp_path))
    found = halves(rows)
    assert {pair.domain for pair, used in zip(rows, found, strict=True) if used} == {"d0", "d2"}
    assert {pair.domain for pair, used in zip(rows, found, strict=True) if not used} == {"d1", "d3"}


def test_pairs_of_one_domain_and_a_model_that_diverged_are_refused(tmp_path: Path) -> None:
    init, config = model(tmp_path / "init"), DirectionConfig(eval="who")
    inputs = DirectionInputs(model=init, init=init, pairs={"cheap": pairs(tmp_path, domains=1)})
    with pytest.raises(UserError, match="all pairs are of one domain"):
        direction.run(config, inputs, tmp_path)
    diverged = model(tmp_path / "diverged", shift={SPEC: float("nan")})
    inputs = DirectionInputs(model=diverged, init=init, pairs={"cheap": pairs(tmp_path)})
    with pytest.raises(UserError, match=r"diverged: hidden states of pair 'p0' are not finite"):
        direction.run(config, inputs, tmp_path)
