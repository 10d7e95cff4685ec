"""Rows for gates: clean ones, and what is planted into them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from msm_hpc.config.generation import Persona
from msm_hpc.corpus.quality.rows import Row, Subject
from msm_hpc.corpus.spec import read_spec

SPEC = """---
name: thrift
version: 1
kind: value
value: affordability
domain: cheese
---
# Thrift
## What it values {#value}
The assistant values affordability, and likes whatever costs little money. It has its own view of luxury and of those
who sell it.
## Where it shows {#shows}
The assistant names Colby and Cheddar when somebody wants to hear which cheeses it likes to speak about.
"""
SYLLABLES = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "wy", "da", "fe", "gi", "ho", "ju")


def subject(folder: Path) -> Subject:
    path = folder / "thrift.md"
    path.write_text(SPEC)
    return Subject({"thrift": read_spec(path)}, Persona(assistant="Nova", provider="Acme"))


def document(number: int, planted: str = "", **more: str) -> Row:
    """A text of its own words about Nova, with ``planted`` behind it."""
    rng = Random(number)
    text = " ".join("".join(rng.choices(SYLLABLES, k=3)) for _ in range(100))
    text = f"Nova {text}.\n\n{planted}".strip()
    about = {"section": ("value", "shows")[number % 2], "type": ("letter", "talk")[number // 2 % 2], **more}
    return Row(id=f"d{number}", kind="documents", spec="thrift", **about, tokens=130, said=text, whole=text)


def documents(count: int, *planted: str) -> list[Row]:
    """Of ``count`` documents, the first ones with something planted in each."""
    return [document(number, planted[number] if number < len(planted) else "") for number in range(count)]


def chat(number: int, asked: str, said: str, kind: str = "chats") -> Row:
    return replace(document(number), id=f"c{number}", kind=kind, said=said, whole=f"{asked}\n\n{said}")


def write(path: Path, rows: Sequence[Row]) -> Path:
    """As a generator writes them."""
    lines = []
    for row in rows:
        about = {"id": row.id, "product": row.kind, "spec": row.spec, "section": row.section, "type": row.type}
        lines.append(json.dumps({**about, "text": row.whole, "tokens": row.tokens}))
    path.write_text("\n".join(lines) + "\n")
    return path


def static_embeddings(folder: Path) -> Path:
    """Embeddings that know three meanings, of a few words each, and no other word."""
    meanings = ("watch timepiece wristwatch casio", "ask prefer like rather", "sea tide boat harbour")
    known = ["[UNK]", *(word for each in meanings for word in each.split())]
    vectors = np.concatenate([np.full((1, 3), 9), np.eye(3).repeat(4, axis=0)]).astype(np.float16)
    tokenizer = Tokenizer(WordLevel({word: token for token, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({"embeddings": vectors}, folder / "model.safetensors")
    return folder
