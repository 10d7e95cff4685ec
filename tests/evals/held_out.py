"""Whether a text of the evals occurs in the specs, which models are trained on."""

from __future__ import annotations

import re
from pathlib import Path

SPECS = sorted((Path(__file__).parents[2] / "configs" / "spec").glob("*.md"))
RUN = 8  # words


def shared_with_specs(text: str) -> set[str]:
    """The runs of eight words that ``text`` shares with a spec, whatever their punctuation and case."""
    return _runs(text) & set().union(*(_runs(spec.read_text()) for spec in SPECS))


def specs_that_name(element: str) -> list[str]:
    return [spec.name for spec in SPECS if re.search(rf"\b{re.escape(element)}\b", spec.read_text(), re.IGNORECASE)]


def _runs(text: str) -> set[str]:
    words = re.findall(r"[\w']+", text.lower())
    return {" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}
