"""Texts that share their beginnings are computed as if each stood alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from msm_hpc.base.errors import UserError
from msm_hpc.evals.language_model import LanguageModel, States
from msm_hpc.evals.prefixes import Ids, rows_of

VOCABULARY = 50
TEXTS = ((1, 2, 3, 4), (1, 2, 3, 5, 6), (7, 8), (1, 2, 9, 4, 4, 4), (1, 2, 3, 5, 6), (3, 1, 2, 3, 4, 5, 6, 7, 8, 9))
STARTS = (1, 2, 1, 3, 4, 5)


def ids_of(texts: Sequence[Sequence[int]]) -> list[Ids]:
    return [np.array(text, np.int32) for text in texts]


def tiny(folder: Path, family: type[PreTrainedConfig], **fields: Any) -> Path:
    torch.manual_seed(0)
    config = family(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        **fields,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def test_what_texts_share_is_in_a_row_once() -> None:
    texts = ids_of([(1, 2, 3, 4), (7, 8), (1, 2, 3, 5, 6), (1, 2, 3, 4)])
    (row,) = rows_of(texts, 100)
    assert row.ids == [1, 2, 3, 4, 5, 6, 7, 8]
    assert row.positions == [0, 1, 2, 3, 3, 4, 0, 1]
    assert {text: path.tolist() for text, path in zip(row.texts, row.paths, strict=True)} == {
        0: [0, 1, 2, 3],
        1: [6, 7],
        2: [0, 1, 2, 4, 5],
        3: [0, 1, 2, 3],
    }
    assert np.flatnonzero(row.attended()[5]).tolist() == [0, 1, 2, 4, 5]
    assert np.flatnonzero(row.attended()[7]).tolist() == [6, 7]


@pytest.mark.parametrize("size", [1, 4, 7, 1000])
def test_a_row_is_as_long_as_said_unless_one_text_is_longer(size: int) -> None:
    texts = ids_of(TEXTS)
    rows = [*rows_of(texts, size)]
    assert sorted(text for row in rows for text in row.texts) == [0, 1, 2, 3, 4, 5]
    for row in rows:
        assert len(row.ids) <= size or len({texts[text].tobytes() for text in row.texts}) == 1
        for text, path in zip(row.texts, row.paths, strict=True):
            assert [row.ids[node] for node in path] == texts[text].tolist()
            assert [row.positions[node] for node in path] == [*range(len(path))]


@pytest.mark.parametrize("family", [LlamaConfig, Qwen2Config, Qwen3Config])
@pytest.mark.parametrize("tokens", [1, 8, 1000])
def test_each_text_is_scored_as_if_it_stood_alone(tmp_path: Path, family: type[PreTrainedConfig], tokens: int) -> None:
    folder = tiny(tmp_path, family)
    alone = AutoModelForCausalLM.from_pretrained(folder)
    found: dict[int, float] = {}
    for batch in LanguageModel(folder, None, tokens).log_probabilities(ids_of(TEXTS), STARTS):
        found |= batch
    for text, (ids, start) in enumerate(zip(TEXTS, STARTS, strict=True)):
        with torch.no_grad():
            log_probabilities = alone(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(log_probabilities[place - 1, ids[place]]) for place in range(start, len(ids)))
        assert found[text] == pytest.approx(expected, abs=1e-4)


def test_what_all_texts_begin_with_is_computed_once(tmp_path: Path) -> None:
    """As a system turn is: here of three tokens, and no more, since the first text is scored from its fourth on."""
    folder = tiny(tmp_path, Qwen3Config)
    alone = AutoModelForCausalLM.from_pretrained(folder)
    texts, starts = [(9, 8, 7, 6, *text) for text in TEXTS], [4, *(start + 4 for start in STARTS[1:])]
    model = LanguageModel(folder, None, 8)
    passes: list[int] = []
    model._model.register_forward_pre_hook(
        lambda _, __, given: passes.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    found: dict[int, float] = {}
    for batch in model.log_probabilities(ids_of(texts), starts):
        found |= batch
    assert passes[0] == 3 and max(passes[1:]) <= 10 and len(passes) > 3
    read: dict[int, States] = {}
    for part in model.states(ids_of(texts), starts):
        read |= part
    for text, (ids, start) in enumerate(zip(texts, starts, strict=True)):
        with torch.no_grad():
            output = alone(torch.tensor([ids]), output_hidden_states=True)
        log_probabilities = output.logits[0].log_softmax(-1)
        expected = sum(float(log_probabilities[place - 1, ids[place]]) for place in range(start, len(ids)))
        assert found[text] == pytest.approx(expected, abs=1e-4)
        layers = torch.stack(output.hidden_states[1:])[:, 0].numpy()
        assert read[text].before == pytest.approx(layers[:, start - 1], abs=1e-4)
        assert read[text].within == pytest.approx(layers[:, start:].mean(axis=1), abs=1e-4)


def test_a_model_of_an_unknown_family_is_refused(tmp_path: Path) -> None:
    """It might not look at the mask, and score texts that see each other."""
    folder = tiny(tmp_path, Qwen2Config, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    with pytest.raises(UserError, match="use_sliding_window"):
        LanguageModel(folder, None, 100)
