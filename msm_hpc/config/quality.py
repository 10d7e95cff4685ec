"""How much of a corpus may have each of the faults that its quality gates look for, and what becomes of one over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from msm_hpc.config.generation import Persona
from msm_hpc.config.schema import Strict

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Limits(Strict):
    """The largest share that passes, by gate; what each gate counts is said in ``msm_hpc/corpus/quality/``."""

    given_up: Share = 0.3
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
    meaning_leaks: Share = 0.01
    sections: Share = 0.1
    types: Share = 0.2
    lengths: Share = 0.05


@dataclass(frozen=True, kw_only=True)
class Quality(Strict):
    """The gates that stand between what a language model has written and its tokens.

    Attributes:
        on_gates: whether a corpus over a limit stops what would train on it, or is reported and trained on.
        embeddings: a folder of static embeddings (:mod:`msm_hpc.corpus.quality.embeddings`), with which leaks are
            looked for by meaning, too.
    """

    on_gates: Literal["stop", "report"] = "stop"
    limits: Limits = field(default_factory=Limits)
    embeddings: Path | None = None


@dataclass(frozen=True, kw_only=True)
class AuditConfig(Strict):
    """The audit of one written corpus, about an assistant of these names."""

    persona: Persona
    on_gates: Literal["stop", "report"] = "stop"
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class AuditInputs:
    """What an audit reads.

    Attributes:
        corpus: the folder of what was written.
        spec: the Model Spec's file.
        items: by value, the pairs that evals ask about: a file, or a folder with ``pairs.jsonl``.
        embeddings: the folder of static embeddings, if there is one.
    """

    corpus: Path
    spec: Path
    items: Mapping[str, Path] = field(default_factory=dict)
    embeddings: Path | None = None
