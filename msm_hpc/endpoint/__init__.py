"""Asking a language model over HTTP: many prompts at once, each paid for once, whatever fails on the way.

What asks is imported when it is asked for: the client's library takes longer than all else that `msm status` imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msm_hpc.endpoint.engine import Engine, ask, opened
    from msm_hpc.endpoint.preflight import check
    from msm_hpc.endpoint.prompts import Answer, Message, Prompt, Reject, Reply
    from msm_hpc.endpoint.replies import spent
    from msm_hpc.endpoint.spending import Spent

__all__ = ["Answer", "Engine", "Message", "Prompt", "Reject", "Reply", "Spent", "ask", "check", "opened", "spent"]
_HOMES = {
    "engine": ("Engine", "ask", "opened"),
    "preflight": ("check",),
    "prompts": ("Answer", "Message", "Prompt", "Reject", "Reply"),
    "replies": ("spent",),
    "spending": ("Spent",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
