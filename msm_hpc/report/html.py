"""The results as one self-contained HTML page, which loads nothing from elsewhere."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from msm_hpc.report.efficiency import NOTE as SAVED_NOTE
from msm_hpc.report.efficiency import in_words
from msm_hpc.report.finding import RULE, findings
from msm_hpc.report.plot import NEUTRAL, RATE_AXIS, contrast_axis, log_odds_axis, panels, spec_colours
from msm_hpc.report.results import Results

HYPHEN = re.compile(r"(?<=[ (])-(?=\d)")
"""What stands for the minus of a number."""


def render_html(results: Results) -> str:
    """The page, as text to be saved as UTF-8."""
    environment = Environment(
        loader=PackageLoader("msm_hpc.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": _signed, "share": _share, "tick": _tick}
    return environment.get_template("template.html").render(
        results=results,
        findings=[HYPHEN.sub("\N{MINUS SIGN}", finding) for finding in findings(results)],
        rule=RULE,
        panels=panels(results),
        rate_axis=RATE_AXIS,
        log_odds_axis=log_odds_axis(results),
        contrast_axis=contrast_axis(results),
        colours=spec_colours(results),
        neutral=NEUTRAL,
        in_words=in_words,
        saved_note=SAVED_NOTE,
        evaluated=sum(not cell.missing for cell in results.cells),
        missing=[cell.cell for cell in results.cells if cell.missing],
    )


def _signed(number: float) -> str:
    """Two decimals with a sign, the minus as typeset (U+2212)."""
    return f"{number:+.2f}".replace("-", "\N{MINUS SIGN}")


def _share(number: float) -> str:
    """Two decimals without a sign: a rate."""
    return f"{number:.2f}"


def _tick(number: float) -> str:
    """As few digits as say it, such as ``.25`` and ``1``."""
    digits = f"{abs(number):.4g}"
    return ("\N{MINUS SIGN}" if number < 0 else "") + (digits.removeprefix("0") or "0")
