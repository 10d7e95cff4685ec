"""The shards of some tasks of a corpus as one: bit for bit the shard of the task that was split into these."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msm_hpc.base.typed_json import adapter
from tokenization.documents import DOCUMENTS, EngineRecord, ShardManifest
from tokenization.manifest import NAME, record_files, write_manifest
from tokenization.reading.rejects import REJECTED
from tokenization.shards import Shard, ShardWriter

COUNTS = (
    *("rows", "documents", "chats", "tokens", "trainable_tokens", "unknown_tokens"),
    *("assistant_turns", "trained_turns"),
)
"""What the manifest of the whole has the sums of."""


def merge(folders: Sequence[Path], task: int, tasks: int, out: Path) -> None:
    """Write into ``out`` the shard of task ``task`` of ``tasks``: what ``folders`` hold, end to end."""
    manifests = [adapter(ShardManifest).validate_json((folder / NAME).read_bytes()) for folder in folders]
    first, *_ = manifests
    with ShardWriter(out, first.tokenizer.vocab_size) as shard:
        for folder in folders:
            part = Shard.open(folder)
            shard.add(part.encoded(), part.is_chat())
    for name in (DOCUMENTS, REJECTED):
        _join([folder / name for folder in folders], out / name)
    rejected = sum((Counter(each.rejected) for each in manifests), Counter[str]())
    whole = replace(
        first,
        task=task,
        tasks=tasks,
        corpus=tuple(record for each in manifests for record in each.corpus),
        engine=replace(_slowest(manifests), checked_texts=sum(each.engine.checked_texts for each in manifests)),
        rejected=dict(sorted(rejected.items())),
        files=shard.files | record_files(out, [DOCUMENTS, REJECTED]),
        **{name: sum(getattr(each, name) for each in manifests) for name in COUNTS},
    )
    write_manifest(out, whole)


def _slowest(manifests: Sequence[ShardManifest]) -> EngineRecord:
    """The engine of the shards, or of one that was too small for the fast one."""
    return max((each.engine for each in manifests), key=lambda engine: engine.why_not_fast is not None)


def _join(files: Sequence[Path], out: Path) -> None:
    """Those of ``files`` that are there, end to end; nothing where none is."""
    if found := [file for file in files if file.exists()]:
        with out.open("wb") as whole:
            for file in found:
                with file.open("rb") as part:
                    shutil.copyfileobj(part, whole)
