"""The results in the terminal: what each model prefers, and what the spec changes about it."""

from __future__ import annotations

from rich.console import Console

from msm_hpc.base.text import say
from msm_hpc.cli.views.table import BREAK, Listing
from msm_hpc.report.results import Rate, Results

MISSING = "missing"


def print_results(console: Console, results: Results) -> None:
    """Print the title, the rates, the contrasts between specs, and what must be known to read them."""
    say(console, results.title, style="bold")
    rates_table(results).print(console)
    if results.contrasts:
        say(console, "")
        contrasts_table(results).print(console)
    say(console, "", *(f"Note: {notice}" for notice in results.notices))


def rates_table(results: Results) -> Listing:
    """One row a condition, one column a value: the rate pooled over seeds, with its 95% interval."""
    model = ("model",) if results.several_models else ()
    values = results.values or ("rates",)
    table = Listing(
        ("arm", *model, "spec", results.size_heading, "seeds", *values),
        notes=["Rate of preferring the option that expresses the value, with 95% interval clustered by domain."],
        right=frozenset({results.size_heading, "seeds", *values}),
    )
    for condition in results.conditions:
        rates = [_rate(condition.rate(value)) for value in results.values] or [MISSING]
        model = (condition.model,) if results.several_models else ()
        table.add(condition.arm, *model, condition.spec or "-", _size(condition.size), condition.evaluated, *rates)
    return table


def contrasts_table(results: Results) -> Listing:
    """One row for every two specs of an arm and a value: the rate under the first minus that under the second."""
    model = ("model",) if results.several_models else ()
    table = Listing(
        ("arm", *model, results.size_heading, "specs", "asked about", "difference (95% interval)", "seeds"),
        title="Same fine-tuning, different spec:",
        notes=[
            "The rate under the first spec minus that under the second; the interval does not cover training seeds."
        ],
        right=frozenset({results.size_heading, "difference (95% interval)", "seeds"}),
    )
    for each in results.contrasts:
        model = (each.model,) if results.several_models else ()
        specs = f"{each.spec} -{BREAK}{each.other_spec}"
        found = f"{each.difference:+.2f} ({each.low:+.2f} to {each.high:+.2f})"
        table.add(each.arm, *model, _size(each.size), specs, each.value, found, str(len(each.seeds)))
    return table


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size:,}"


def _rate(rate: Rate | None) -> str:
    return f"{rate.rate:.2f} {rate.low:.2f}-{rate.high:.2f}" if rate else MISSING
