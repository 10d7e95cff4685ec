"""The texts of evals, which are data beside the code: Jinja templates, YAML, and JSON schemas of judges' answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jinja2 import Environment, StrictUndefined, Template
from pydantic import TypeAdapter

T = TypeVar("T")
_JINJA = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)


def rendered(file: Path, **slots: Any) -> str:
    """A template file, filled in; a slot that is not given is an error."""
    return _template(file).render(slots).strip()


@cache
def _template(file: Path) -> Template:
    return _JINJA.from_string(file.read_text())


def filled(text: str, slots: Mapping[str, str]) -> str:
    """A text of a data file, filled in."""
    return _compiled(text).render(slots).strip()


@cache
def _compiled(text: str) -> Template:
    return _JINJA.from_string(text)


def read_yaml(file: Path, kind: type[T]) -> T:
    """A YAML file as an instance of ``kind``."""
    return TypeAdapter(kind).validate_python(yaml.safe_load(file.read_text()))


def read_schema(file: Path) -> dict[str, Any]:
    """A JSON schema, as OpenAI-compatible servers take it."""
    schema: dict[str, Any] = json.loads(file.read_text())
    return schema
