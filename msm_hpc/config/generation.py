"""How a language model writes corpora from a Model Spec: what decides their text, and where it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.schema import Fraction, Strict
from msm_hpc.config.serving import Serving

Written = Literal["documents", "chats", "aligned_chats"]
"""What a language model writes from an outline."""
Reworked = Literal["mentions", "neutral", "content_chats", "plain_chats"]
"""What is made row by row of another source's corpus: ablations and controls, and chats without their thoughts."""


@dataclass(frozen=True, kw_only=True)
class Writing(Strict):
    """How documents are planned and written.

    Attributes:
        types: kinds of document for each section of the spec; fewer where there are fewer documents.
        document_tokens: of one document, on average: what prompts ask for, and a token budget is divided by. Set it to
            what `_summary.json` of a finished corpus has measured.
        spare: the share of documents planned beyond the budget, in the place of those that will be rejected.
        revise: whether each draft is criticised and revised.
        tries: how often one document is asked for at most; the next try is a new sample.
        temperature: of drafts and ideas.
        reply_tokens: the most tokens of one reply.
    """

    types: PositiveInt = 20
    document_tokens: PositiveInt = 1000
    spare: Fraction = 0.1
    revise: bool = True
    tries: PositiveInt = 2
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    reply_tokens: PositiveInt = 8192


@dataclass(frozen=True, kw_only=True)
class Persona(Strict):
    """The names of the assistant, and of who makes it, in all that is written."""

    assistant: str
    provider: str


@dataclass(frozen=True, kw_only=True)
class OutlineConfig(Strict):
    """What is to be written: ideas for documents over the sections of a spec, or messages that begin chats.

    Attributes:
        items: how many.
        types: kinds of document for each section.
        prompts: the hash of the templates that they are asked for with.
    """

    product: Written
    endpoint: Endpoint
    serving: Serving | None = None
    persona: Persona
    items: PositiveInt
    types: NonNegativeInt = 0
    temperature: float
    reply_tokens: PositiveInt
    prompts: str
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class OutlineInputs:
    """``spec``: the Model Spec's file; ``model``: the folder of the model that is served, where one is."""

    spec: Path
    model: Path | None = None


@dataclass(frozen=True, kw_only=True)
class WriteConfig(Strict):
    """What an outline plans, or what is made of other rows; task ``task`` of ``tasks`` writes its share.

    ``document_tokens`` and ``revise`` are of documents alone.
    """

    product: Written | Reworked
    endpoint: Endpoint
    serving: Serving | None = None
    persona: Persona
    document_tokens: NonNegativeInt = 0
    revise: bool = False
    tries: PositiveInt
    temperature: float
    reply_tokens: PositiveInt
    prompts: str
    seed: int = 0
    task: NonNegativeInt = 0
    tasks: PositiveInt = 1


@dataclass(frozen=True, kw_only=True)
class WriteInputs:
    """What is written from.

    Attributes:
        spec: the Model Spec's file.
        outline: the folder of its outline.
        rows: or that of the corpus to rework.
        model: the folder of the model that is served, where one is.
    """

    spec: Path
    outline: Path | None = None
    rows: Path | None = None
    model: Path | None = None


@dataclass(frozen=True, kw_only=True)
class GatherWrittenInputs:
    """The output folders of the tasks 0 to N - 1, in order."""

    shares: tuple[Path, ...]
