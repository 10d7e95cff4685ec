"""The texts of evals, which are data beside the code: Jinja templates and YAML; and those of specs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, StrictUndefined, Template
from pydantic import TypeAdapter

from msm_hpc.base.errors import UserError
from msm_hpc.base.front_matter import FRONT_MATTER
from msm_hpc.base.yaml_files import load_yaml

T = TypeVar("T")
_JINJA = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
_SPEC_TURN = Path(__file__).parent / "spec.jinja"


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
    return TypeAdapter(kind).validate_python(load_yaml(file))


def spec_turn(file: Path | None) -> str:
    """What a spec's system turn says to a model that is asked with it in the place of being trained on it; or nothing.

    Raises:
        UserError: the spec has no text.
    """
    return rendered(_SPEC_TURN, spec=read_spec_text(file)) if file else ""


def read_spec_text(file: Path) -> str:
    """The text of a spec, without the front matter.

    Raises:
        UserError: there is none, or it is not UTF-8.
    """
    try:
        text = FRONT_MATTER.sub("", file.read_text(encoding="utf-8")).strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}; save the spec as UTF-8") from error
    if not text:
        raise UserError(f"{file} has no text: write what models are to be asked or judged by")
    return text
