"""The results as one self-contained HTML page, which loads nothing from elsewhere, and its first plot as SVG."""

from __future__ import annotations

import re
from functools import cache, partial

from jinja2 import Environment

from msm_hpc.base.page import page_templates
from msm_hpc.config.stages import Cell, Hours
from msm_hpc.report.curves import ladder_charts, layer_charts, persistence_charts
from msm_hpc.report.efficiency import in_words
from msm_hpc.report.efficiency import note as saved_note
from msm_hpc.report.finding import RULE, findings
from msm_hpc.report.gates import gate_rows
from msm_hpc.report.grids import grids, of_own_value
from msm_hpc.report.hours import hours_table
from msm_hpc.report.metrics import PREFERENCE, better, member, named, sentence
from msm_hpc.report.model_sizes import size_charts
from msm_hpc.report.paper import NOTE as PAPER_NOTE
from msm_hpc.report.paper import PaperNumber, in_paper, savings_in_paper
from msm_hpc.report.pivots import pivots
from msm_hpc.report.plot import NEUTRAL, RATE_AXIS, contrast_axis, log_odds_axis, panels, spec_colours
from msm_hpc.report.results import Condition, Results, side
from msm_hpc.report.rules import SATURATED, compared_note, p_in_words
from msm_hpc.report.sections import prefers, sections, sizes_of
from msm_hpc.report.statistics import ROUNDING

HYPHEN = re.compile(r"(?<=[ (])-(?=\d)")
"""What stands for the minus of a number."""


def render_html(results: Results, hours: Hours | None = None) -> str:
    """The page, as text to be saved as UTF-8; ``hours`` are what the campaign took."""
    paper_of = partial(_preferred_in_paper, results)
    return (
        _environment()
        .get_template("template.html")
        .render(
            results=results,
            findings=[HYPHEN.sub("\N{MINUS SIGN}", finding) for finding in findings(results)],
            rule=RULE,
            panels=panels(results),
            rate_axis=RATE_AXIS,
            log_odds_axis=log_odds_axis(results),
            contrast_axis=contrast_axis(results),
            colours=spec_colours(results),
            neutral=NEUTRAL,
            sections=(found := sections(results)),
            pivots=pivots(results, found),
            sizes=size_charts(results),
            ladders=ladder_charts(results),
            persistence=persistence_charts(results),
            layers=layer_charts(results),
            paper_note=PAPER_NOTE,
            paper_of=paper_of,
            paper_prefers=any(paper_of(each, value) for each in results.conditions for value in results.values),
            grids=grids(results),
            compared_note=compared_note(results.compared),
            saturated_rule=SATURATED,
            member=member,
            tone=_tone,
            prefers=prefers(results),
            in_words=in_words,
            saved_note=saved_note(results.saved),
            saved_in_paper=savings_in_paper(results.saved),
            evaluated=len(results.cells) - len({(side(each.cell), each.cell.seed) for each in results.absent}),
            missing=_missing(results),
            gate_rows=gate_rows(results.corpora),
            hours=hours_table(hours),
        )
    )


def render_contrasts(results: Results) -> str:
    """The contrasts between specs as one SVG, which stands alone likewise."""
    return (
        _environment()
        .get_template("contrasts.svg")
        .render(
            results=results,
            axis=contrast_axis(results),
            colours=spec_colours(results),
            words=" ".join(HYPHEN.sub("\N{MINUS SIGN}", finding) for finding in findings(results)),
            several_seeds=all(each.log_odds.seeds for each in results.contrasts),
        )
    )


@cache
def _environment() -> Environment:
    environment = page_templates("msm_hpc.report")
    environment.filters |= {"signed": _signed, "share": _share, "tick": _tick, "bare": _bare}
    environment.tests |= {"of_own_value": of_own_value}
    environment.filters |= {"p": p_in_words, "named": named, "sentence": sentence}
    return environment


def _missing(results: Results) -> dict[tuple[str, str], list[Cell]]:
    """Eval and why it is missing to the models of which it is."""
    cells: dict[tuple[str, str], list[Cell]] = {}
    for each in results.absent:
        cells.setdefault((each.eval, each.why), []).append(each.cell)
    return cells


def _preferred_in_paper(results: Results, condition: Condition, value: str) -> tuple[PaperNumber, ...]:
    """The paper's rate of preferring ``value``; on a ladder it is not said beside which size it belongs."""
    if sizes_of(results)[condition.model, condition.arm, condition.spec] > 1:
        return ()
    return in_paper(condition.model, condition.arm, condition.spec, PREFERENCE + value, "preferred")


def _tone(metric: str) -> str:
    """The colour of a metric's heat map, as a custom property of the page."""
    return "below" if better(metric) < 0 else "above"


def _signed(number: float) -> str:
    """Two decimals with a sign, the minus as typeset (U+2212)."""
    return f"{number:+.2f}".replace("-", "\N{MINUS SIGN}")


def _share(number: float) -> str:
    """Two decimals without a sign: a rate."""
    return f"{number:.2f}"


def _bare(number: float, rate: bool) -> str:
    """A rate as ``.05``, another number with as many digits as say it."""
    if rate:
        return f"{number:.2f}".removeprefix("0") if number < 0.995 else "1.0"
    digits = f"{number:.2f}" if abs(number) >= 0.1 or abs(number) < ROUNDING else f"{number:.1g}"
    return digits.replace("-", "\N{MINUS SIGN}")


def _tick(number: float) -> str:
    """As few digits as say it, such as ``.25`` and ``1``."""
    digits = f"{abs(number):.4g}"
    return ("\N{MINUS SIGN}" if number < 0 else "") + (digits.removeprefix("0") or "0")
