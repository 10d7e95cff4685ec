"""What was found in a corpus: ``corpus.html``, one page that loads nothing from elsewhere, and ``audit.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from msm_hpc.base.page import page_templates
from msm_hpc.corpus.quality.gate import failures
from msm_hpc.corpus.quality.inspection import Inspection


def render_page(found: Inspection) -> str:
    """The page, as text to be saved as UTF-8."""
    template = page_templates("msm_hpc.corpus.quality").get_template("template.html")
    return template.render(
        found=found, failed=failures(found.gates), kinds=_kinds(found), corpora=found.balance.corpora()
    )


def in_json(found: Inspection) -> Mapping[str, Any]:
    """The same, but for the rows to read, as JSON values."""
    return {
        "gates": [
            {
                "gate": each.about.name,
                "passed": each.passed,
                "share": each.share,
                "limit": each.limit,
                "found": each.found,
                "of": each.of,
                "unit": each.about.unit,
                "examples": [asdict(example) for example in each.examples],
            }
            for each in found.gates
        ],
        "rows": sum(cell.rows for cell in found.balance.cells),
        "cells": [asdict(cell) for cell in found.balance.cells],
        "rejects": dict(found.rejects),
        "exposures": [asdict(each) for each in found.exposures],
        "skipped": list(found.skipped),
    }


def _kinds(found: Inspection) -> Mapping[str, int]:
    """How many rows there are of each kind that a generator wrote."""
    return {
        " of ".join(part for part in corpus if part): sum(cell.rows for cell in cells)
        for corpus, cells in found.balance.corpora().items()
    }
