"""``corpus.html``: what was found in a corpus, as one page that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from msm_hpc.corpus.quality.gate import failures
from msm_hpc.corpus.quality.inspection import Inspection


def render_page(found: Inspection) -> str:
    """The page, as text to be saved as UTF-8."""
    environment = Environment(
        loader=PackageLoader("msm_hpc.corpus.quality", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": _share}
    return environment.get_template("template.html").render(
        found=found, failed=failures(found.gates), kinds=_kinds(found), corpora=found.balance.corpora()
    )


def _kinds(found: Inspection) -> Mapping[str, int]:
    """How many rows there are of each kind that a generator wrote."""
    return {
        " of ".join(part for part in corpus if part): sum(cell.rows for cell in cells)
        for corpus, cells in found.balance.corpora().items()
    }


def _share(number: float) -> str:
    """A percentage with as many digits as tell it from 0 and from its neighbours."""
    return f"{100 * number:.1f}%" if number >= 0.01 or number == 0 else f"{100 * number:.2f}%"
