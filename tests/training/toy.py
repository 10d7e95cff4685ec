"""Small real inputs for the training stage: a model folder, shards written and packed by ``tokenization``."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from msm_hpc.config.training import Layout, TrainConfig, TrainInputs
from msm_hpc.training.record.metrics import StepMetrics
from tokenization.documents import DOCUMENTS, EngineRecord, ShardManifest, TokenizerFacts
from tokenization.encoded import Encoded
from tokenization.manifest import record_files, write_manifest
from tokenization.packing import pack
from tokenization.packing.pack import PackConfig, PackInputs
from tokenization.packing.plan import Plan
from tokenization.packing.selection import Take
from tokenization.shards import BIN, CHATS, IDX, MASK, Shard, ShardWriter

TWO_RANKS = TrainConfig(
    sequence_length=32,
    global_batch_size=8,
    micro_batch_size=4,
    epochs=2,
    learning_rate=3e-3,
    precision="bf16",
    save_every=3,
    layout=Layout(data_parallel=2),
)
TOKENIZER = json.dumps(
    {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"<eos>": 0, "<unk>": 1}, "unk_token": "<unk>"},
    }
)
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 200,
}


@dataclass(frozen=True)
class Corpus:
    """Random documents with a pattern to learn; the first third of the tokens of each is not trainable."""

    documents: int = 120
    shortest: int = 3
    longest: int = 20
    vocab_size: int = 200
    sequence_length: int = 32
    seed: int = 0


def write_model(folder: Path, **changes: Any) -> Path:
    """A model step's output with :data:`LLAMA` as config."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA | changes))
    (folder / "tokenizer.json").write_text(TOKENIZER)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<eos>", "unk_token": "<unk>"}')
    return folder


def write_inputs(root: Path, corpus: Corpus = Corpus(), **changes: Any) -> TrainInputs:
    """The inputs of a training that draws its weights."""
    shard, plan = root / "shard", root / "plan"
    for folder in (shard, plan):
        folder.mkdir(parents=True)
    write_shard(shard, corpus)
    _write_plan(plan, shard, corpus)
    model = write_model(root / "model", **({"vocab_size": corpus.vocab_size} | changes))
    return TrainInputs(model=model, plan=plan, shards={"chats": shard})


def _write_plan(folder: Path, shard: Path, corpus: Corpus) -> None:
    config = PackConfig(sequence_length=corpus.sequence_length, sources=(Take(source="chats"),), seed=corpus.seed)
    pack.run(config, PackInputs(shards={"chats": shard}), folder)


def write_shard(folder: Path, corpus: Corpus) -> None:
    random = np.random.default_rng(corpus.seed)
    lengths = random.integers(corpus.shortest, corpus.longest + 1, corpus.documents)
    with ShardWriter(folder, corpus.vocab_size) as shard:
        for length in lengths:
            start, stride = random.integers(0, corpus.vocab_size), random.integers(1, 4)
            tokens = (start + stride * np.arange(length)) % corpus.vocab_size
            add_chat(shard, tokens.astype(np.int32), (np.arange(length) >= length // 3).astype(np.uint8))
    _write_records(folder, corpus)


def add_chat(shard: ShardWriter, tokens: NDArray[np.int32], mask: NDArray[np.uint8]) -> None:
    shard.add(Encoded(tokens, np.array([len(tokens)], np.int32), mask), np.array([True]))


def _write_records(folder: Path, corpus: Corpus) -> None:
    shard = Shard(folder)
    rows = [
        {"id": str(number), "kind": "chat", "provenance": {"parity": ("even", "odd")[number % 2]}}
        for number in range(corpus.documents)
    ]
    (folder / DOCUMENTS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    digest = hashlib.sha256(TOKENIZER.encode()).hexdigest()
    manifest = ShardManifest(
        source="random numbers",
        task=0,
        tasks=1,
        cot="train",
        turns="as_printed",
        special_text=False,
        corpus=(),
        tokenizer=TokenizerFacts(digest, None, corpus.vocab_size, 0, 1),
        engine=EngineRecord("random numbers", None, 0),
        rows=corpus.documents,
        documents=0,
        chats=corpus.documents,
        tokens=shard.total_tokens,
        trainable_tokens=int(shard.trainable().sum()),
        unknown_tokens=0,
        assistant_turns=0,
        trained_turns=0,
        rejected={},
        files=record_files(folder, [BIN, IDX, MASK, CHATS, DOCUMENTS]),
    )
    write_manifest(folder, manifest)


def change_document(inputs: TrainInputs, root: Path, document: int, corpus: Corpus) -> TrainInputs:
    """The inputs with a copy of the shard in which every token of one document is another one; the rows stay."""
    old, shard, plan = Shard(inputs.shards["chats"]), root / "shard", root / "plan"
    for folder in (shard, plan):
        folder.mkdir(parents=True)
    with ShardWriter(shard, corpus.vocab_size) as new:
        for number in range(len(old)):
            tokens = old.tokens(number).astype(np.int32)
            changed = (tokens + 17) % corpus.vocab_size
            add_chat(new, changed if number == document else tokens, old.loss_mask(number))
    _write_records(shard, corpus)
    _write_plan(plan, shard, corpus)
    return replace(inputs, plan=plan, shards={"chats": shard})


def read_metrics(out: Path) -> list[StepMetrics]:
    """The steps of a run."""
    return [StepMetrics(**json.loads(line)) for line in (out / "metrics.jsonl").read_text().splitlines()]


def read_exact(out: Path) -> list[StepMetrics]:
    """The steps of a run without what differs from one try to the next."""
    return [replace(step, seconds=0, peak_memory=0) for step in read_metrics(out)]


def losses_by_document(plan: Path, losses: torch.Tensor, multiple: int = 1) -> dict[int, NDArray[np.float32]]:
    """Losses of the predicting tokens of each document, which are padded to ``multiple``, from [rows, tokens a row]."""
    rows = Plan(plan)
    found = {}
    for row in range(len(rows)):
        begin = 0
        for piece in rows.row(row):
            found[piece.document] = losses[row, begin : begin + piece.length - 1].numpy()
            begin += -(-piece.length // multiple) * multiple
    return found


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, read with torch alone: no Megatron, no process group."""
    stored = FileSystemReader(path).read_metadata().state_dict_metadata
    tensors = {
        key: torch.empty(value.size, dtype=value.properties.dtype)
        for key, value in stored.items()
        if isinstance(value, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.distributed is not initialised, which is meant
        load(tensors, storage_reader=FileSystemReader(path), no_dist=True)
    return tensors
