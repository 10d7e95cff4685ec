"""How much of a corpus may have each of the faults that its quality gates look for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from msm_hpc.config.schema import Strict

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Limits(Strict):
    """The largest share that passes, by gate; what each gate counts is said in ``msm_hpc/corpus/quality/``."""

    near_duplicates: Share = 0.02
    names: Share = 0.08
    full_names: Share = 0.02
    phrases: Share = 0.05
    other_names: Share = 0.001
    unnamed: Share = 0.02
    unattributed: Share = 0.3
    opaque: Share = 0.01
    placeholders: Share = 0.005
    dates: Share = 0.02
    remarks: Share = 0.005
    options: Share = 0.002
    verbatim: Share = 0.05
    option_leaks: Share = 0.01
    question_leaks: Share = 0.01
    sections: Share = 0.1
    types: Share = 0.2
    lengths: Share = 0.05
