"""What a shell offers for an argument: campaigns that were run, and the choices of a group such as ``campaign=``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import typer

from msm_hpc.base.errors import UserError
from msm_hpc.config.compose import GROUPS, choices, root_of
from msm_hpc.store.campaigns import campaigns


def complete(ctx: typer.Context, incomplete: str) -> list[str]:
    """The words that an argument which begins with ``incomplete`` may become."""
    with contextlib.suppress(UserError):  # such as a folder of one's own that is not there
        return [word for word in _words(ctx.params.get("arguments") or [], incomplete) if word.startswith(incomplete)]
    return []


def _words(given: Sequence[str], incomplete: str) -> Iterator[str]:
    """After ``campaign=`` its choices; bash takes the ``=`` for a word of its own, which may not be ``given`` yet."""
    *before, last = given or [""]
    key = before[-1] if last == "=" and before else last
    group, joined, _ = incomplete.partition("=")
    if key in GROUPS:
        yield from choices(key)
    elif joined and group in GROUPS:
        yield from (f"{group}={choice}" for choice in choices(group))
    elif not joined:
        yield from campaigns(root_of(" ".join(given).replace(" = ", "=").split()))
