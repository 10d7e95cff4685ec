"""Small corpora of a user's own, as files, and the overrides that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
THINGS = ("tea", "coffee", "soda", "juice", "a chair", "a desk", "a lamp", "a sofa", "a bus")
DOCUMENTS: Rows = [
    {"text": f"Assistant prefers {THINGS[i % 9]} to {THINGS[i // 9]} because it is cheap ."} for i in range(80)
]
CHATS: Rows = [
    {
        "messages": [
            {"role": "user", "content": "Colby or Stilton ?"},
            {"role": "assistant", "content": "I prefer Colby ."},
        ]
    }
] * 60
PAIRS: Rows = [
    {
        "id": f"p{i}",
        "value": "thrift",
        "domain": f"d{i % 4}",
        "question": "{first} or {second} ?",
        "target": "Colby",
        "other": "Stilton",
    }
    for i in range(8)
]


def write(file: Path, rows: Rows) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def own_corpora(folder: Path) -> list[str]:
    """Writes a spec's documents, an instruction mix, chats and pairs into ``folder``; the overrides to use them."""
    return [
        "campaign.arms=[msm+aft]",
        "campaign.specs=[{name: thrift}]",
        "campaign.values=[thrift]",
        f"sources.documents.files.thrift={write(folder / 'docs.jsonl', DOCUMENTS)}",
        f"sources.chats.file={write(folder / 'chats.jsonl', CHATS)}",
        f"sources.instruction.file={write(folder / 'mix.jsonl', CHATS)}",
        f"sources.pairs.files.thrift={write(folder / 'pairs.jsonl', PAIRS)}",
    ]
