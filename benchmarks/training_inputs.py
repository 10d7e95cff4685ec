"""Inputs of the training benchmark: a small Llama, and rows of one document each, made by the stages' own code.

Words of the toy tokenizer are one token each, so a document of ``ROW - 1`` words and its EOD fill a row exactly, and a
loop that knows nothing of packing computes the same attention as ours.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from msm_hpc.config.stages import Architecture, ModelConfig, ModelInputs
from msm_hpc.config.training import TrainConfig, TrainInputs
from msm_hpc.conversion.stage import run_model
from msm_hpc.corpus.toy_tokenizer import write_tokenizer
from tokenization import tokenize
from tokenization.packing import pack
from tokenization.packing.selection import Take

ROW = 512
ROWS = 8
SHAPE = Architecture(
    hidden_size=512,
    intermediate_size=1408,
    num_hidden_layers=10,
    num_attention_heads=8,
    num_key_value_heads=4,
    max_position_embeddings=ROW,
)


def recipe(precision: str, epochs: int) -> TrainConfig:
    """Two optimizer steps an epoch, of four rows in one micro-batch."""
    return TrainConfig(
        sequence_length=ROW,
        global_batch_size=4,
        micro_batch_size=4,
        epochs=epochs,
        precision=precision,  # type: ignore[arg-type]
    )


def make(work: Path, shape: Architecture = SHAPE, row: int = ROW, rows: int = ROWS) -> TrainInputs:
    """The folders that the training stage reads, of so many rows, made in ``work`` where they are not there yet."""
    inputs = TrainInputs(model=work / "model", plan=work / "plan", shards={"words": work / "words"})
    tokenizer, corpus, shard = work / "tokenizer", work / "words.jsonl", inputs.shards["words"]
    if inputs.plan.exists():
        return inputs
    for folder in (tokenizer, inputs.model, inputs.plan, shard):
        folder.mkdir(parents=True)
    write_tokenizer(tokenizer)
    _write_words(corpus, tokenizer, row, rows)
    run_model(ModelConfig(architecture=shape), ModelInputs(tokenizer=tokenizer), inputs.model)
    tokenize.run(tokenize.TokenizeConfig(), tokenize.TokenizeInputs(corpus=corpus, tokenizer=tokenizer), shard)
    config = pack.PackConfig(sequence_length=row, sources=(Take(source="words"),))
    pack.run(config, pack.PackInputs(shards={"words": shard}), inputs.plan)
    return inputs


def _write_words(path: Path, tokenizer: Path, row: int, rows: int) -> None:
    vocabulary = sorted(Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab(with_added_tokens=False))
    words = [word for word in vocabulary if not word.startswith("<")]
    drawn = np.random.default_rng(0).integers(len(words), size=(rows, row - 1))
    texts = [{"text": " ".join(words[number] for number in numbers)} for numbers in drawn]
    path.write_text("".join(json.dumps(text) + "\n" for text in texts))
