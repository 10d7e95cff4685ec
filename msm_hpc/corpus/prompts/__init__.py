"""The words of prompts: a template for each thing that is asked, in Jinja, in a file beside this one.

Templates see only the values that they are given, and what is in these is text, never a template.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from msm_hpc.config.generation import Reworked, Written

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

FOLDER = Path(__file__).parent
OUTLINE: Mapping[Written, tuple[str, ...]] = {
    "documents": ("spec.j2", "assertions.j2", "types.j2", "ideas.j2", "angles.txt"),
    "chats": ("spec.j2", "preferences.j2", "preference_queries.j2", "preference_query_types.txt"),
    "aligned_chats": ("spec.j2", "domains.j2", "queries.j2", "query_types.txt"),
}
"""The files that an outline is asked for with."""
WRITE: Mapping[Written | Reworked, tuple[str, ...]] = {
    "documents": ("spec.j2", "document.j2", "revise.j2", "given_names.txt", "family_names.txt"),
    "chats": ("preference_respond.j2", "preference_judge.j2"),
    "aligned_chats": ("spec.j2", "respond.j2", "judge.j2"),
    "mentions": ("spec.j2", "mentions.j2"),
    "neutral": ("neutral.j2",),
    "content_chats": ("spec.j2", "content_chats.j2"),
    "plain_chats": (),
}
"""Those that rows are written with."""

IDENTITY = "identity.yaml"
"""What chats about the assistant's identity are made of."""


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import FileSystemLoader, StrictUndefined  # here, since whoever asks for a hash does without
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(FOLDER), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def render(template: str, **values: object) -> str:
    """The text of ``template``, with ``values`` in their places."""
    return _environment().get_template(f"{template}.j2").render(values).strip()


@cache
def pool(name: str) -> str:
    """A text that prompts draw from: names, points of view."""
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


@cache
def hash_of(files: tuple[str, ...]) -> str:
    """A short hash of templates and pools as they are: a change of their words is a change of what is written."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + (FOLDER / name).read_bytes() + b"\0")
    return digest.hexdigest()[:16]
