"""What all parts of the schema are made of.

A field made with :func:`placement` says where or how fast a stage runs, not what comes out: it is left out of a step's
identity (``graph/steps.py``), so that changing it re-runs nothing.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

PLACEMENT = "placement"
Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$", max_length=100)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def placement(default: Any) -> Any:
    """A field that does not change the result of a stage."""
    return field(default=default, metadata={PLACEMENT: True})


class Strict:
    """Base of the schema: pydantic refuses keys that are not fields."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}
