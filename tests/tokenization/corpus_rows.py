"""Rows of ``data.jsonl``."""

from __future__ import annotations

from typing import Any


def document(name: str, text: str) -> dict[str, Any]:
    return {"id": name, "text": text}


def chat(name: str, *turns: str, system: str | None = None) -> dict[str, Any]:
    """Turns alternate, the user's first."""
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return {"id": name, "messages": [{"role": "system", "content": system}] * (system is not None) + messages}
