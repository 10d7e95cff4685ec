"""The results as one self-contained HTML page, which loads nothing from elsewhere."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from msm_hpc.report.plot import NEUTRAL, panels, spec_colours
from msm_hpc.report.results import Results


def render_html(results: Results) -> str:
    """The page, as text to be saved as UTF-8."""
    environment = Environment(
        loader=PackageLoader("msm_hpc.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = _signed
    return environment.get_template("template.html").render(
        results=results,
        panels=panels(results),
        colours=spec_colours(results),
        neutral=NEUTRAL,
        evaluated=sum(not cell.missing for cell in results.cells),
        missing=[cell.cell for cell in results.cells if cell.missing],
    )


def _signed(number: float) -> str:
    """Two decimals with a sign, the minus as typeset (U+2212)."""
    return f"{number:+.2f}".replace("-", "\N{MINUS SIGN}")
