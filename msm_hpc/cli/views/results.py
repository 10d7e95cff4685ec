"""The results in the terminal: what the spec changes about what the models prefer, and what each of them prefers."""

from __future__ import annotations

from rich.console import Console

from msm_hpc.base.text import say
from msm_hpc.cli.views.table import BREAK, Listing
from msm_hpc.report.efficiency import NOTE as SAVED_NOTE
from msm_hpc.report.efficiency import in_words
from msm_hpc.report.finding import RULE, findings
from msm_hpc.report.results import Estimate, Preference, Results

MISSING = "missing"
INTERVALS = "with 95% intervals over training seeds (of a single seed: over the pairs asked)"


def print_results(console: Console, results: Results) -> None:
    """Print the title, the findings and contrasts between specs, the preferences, and what to know to read them."""
    say(console, results.title, style="bold")
    if results.contrasts:
        say(console, *findings(results), RULE, "")
        contrasts_table(results).print(console)
        say(console, "")
    if results.saved:
        savings_table(results).print(console)
        say(console, "")
    preferences_table(results).print(console)
    say(console, "", *(f"Note: {notice}" for notice in results.notices))


def contrasts_table(results: Results) -> Listing:
    """One row for every two specs of an arm and a value: the first spec minus the second."""
    model = ("model",) if results.several_models else ()
    numbers = ("log-odds", "rate")
    table = Listing(
        ("asked about", "specs", *model, "arm", *numbers),
        title="Same fine-tuning, different spec:",
        notes=[f"The first spec minus the second, {INTERVALS}; above 0 is towards the value asked about."],
        right=frozenset(numbers),
    )
    for each in results.contrasts:
        model = (each.model,) if results.several_models else ()
        specs = f"{each.spec}{BREAK}- {each.other_spec}"
        found = (_estimate(each.log_odds, "+.2f", BREAK), _estimate(each.rate, "+.2f", BREAK))
        table.add(each.value, specs, *model, _arm(each.arm, each.size, results.counted), *found)
    return table


def savings_table(results: Results) -> Listing:
    """One row for every amount of data of an arm that another is compared with: how much less the other needs."""
    model = ("model",) if results.several_models else ()
    table = Listing(
        ("asked about", *model, "arm", "as good as", "seeds", "less data"),
        title="Data needed to do as well:",
        notes=[SAVED_NOTE],
        right=frozenset({"seeds", "less data"}),
    )
    for each in results.saved:
        for saving in each.savings:
            model = (each.model,) if results.several_models else ()
            spec = f"{BREAK}{each.spec}" if each.spec else ""
            reference = _arm(each.reference, saving.size, results.counted)
            table.add(each.value, *model, f"{each.arm}{spec}", reference, str(each.seeds), BREAK.join(in_words(saving)))
    return table


def preferences_table(results: Results) -> Listing:
    """One row a condition, one column a value: the rate over all seeds, and below it the log-odds."""
    model = ("model",) if results.several_models else ()
    values = results.values or ("rates",)
    table = Listing(
        ("arm", *model, "spec", "seeds", *values),
        title="What the models prefer:",
        notes=[
            "The rate of preferring the option that expresses the value; below it the mean log-odds of its answer "
            f"against the other. Both {INTERVALS}."
        ],
        right=frozenset({"seeds", *values}),
    )
    for condition in results.conditions:
        found = [_preference(condition.preference(value)) for value in results.values] or [MISSING]
        model = (condition.model,) if results.several_models else ()
        table.add(
            _arm(condition.arm, condition.size, results.counted),
            *model,
            condition.spec or "-",
            condition.evaluated,
            *found,
        )
    return table


def _arm(arm: str, size: int | None, counted: str) -> str:
    return arm if size is None else f"{arm}{BREAK}{size:,} {counted}"


def _preference(found: Preference | None) -> str:
    return f"{_estimate(found.rate, '.2f')}{BREAK}{_estimate(found.log_odds, '+.2f')}" if found else MISSING


def _estimate(found: Estimate, form: str, gap: str = " ") -> str:
    interval = found.shown
    return f"{found.mean:{form}}" + (f"{gap}{interval.low:{form}} to {interval.high:{form}}" if interval else "")
