"""The results in the terminal: what the spec changes, and what each of the models does and prefers."""

from __future__ import annotations

from rich.console import Console

from msm_hpc.base.text import say
from msm_hpc.cli.views.table import BREAK, Listing
from msm_hpc.report.efficiency import in_words
from msm_hpc.report.efficiency import note as saved_note
from msm_hpc.report.finding import RULE, findings
from msm_hpc.report.metrics import named, sentence
from msm_hpc.report.paper import SOURCE as PAPER
from msm_hpc.report.paper import savings_in_paper
from msm_hpc.report.results import Estimate, Measurement, Preference, Results
from msm_hpc.report.rules import SATURATED, compared_note, p_in_words
from msm_hpc.report.sections import Section, prefers, sections

MISSING = "missing"
INTERVALS = "with 95% intervals over training seeds (of a single seed: over the pairs asked)"


def print_results(console: Console, results: Results) -> None:
    """Print the title, the findings and contrasts between specs, the preferences, and what to know to read them."""
    say(console, results.title, style="bold")
    if results.contrasts:
        say(console, *findings(results), RULE, "")
        contrasts_table(results).print(console)
        say(console, "")
    tables = [
        compared_table(results) if results.compared else None,
        savings_table(results) if results.saved else None,
        *(eval_table(results, section) for section in sections(results) if not section.families),
        preferences_table(results) if prefers(results) else None,
    ]
    for number, table in enumerate(table for table in tables if table):
        say(console, *([""] if number else []))
        table.print(console)
    many = [named(section.eval) for section in sections(results) if section.families]
    say(console, *(f"{sentence(name)}: its many metrics are in report.html and measurements.csv." for name in many))
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


def compared_table(results: Results) -> Listing:
    """One row for every two arms or specs that are compared by an eval: the first minus the second."""
    model = ("model",) if results.several_models else ()
    table = Listing(
        ("eval", *model, "compared", "difference", "p", "seeds"),
        title="Against each other, on equal items:",
        notes=[compared_note(results.compared), *([SATURATED] if any(x.saturated for x in results.compared) else [])],
        right=frozenset({"difference", "p", "seeds"}),
    )
    for each in results.compared:
        model = (each.model,) if results.several_models else ()
        size = "" if each.size is None else f" {each.size:,}"
        sides = f"{_side(each.arm, each.spec)}{size}{BREAK}- {_side(each.other_arm, each.other_spec)}"
        bounds = "" if each.low is None else f"{BREAK}{each.low:+.2f} to {each.high:+.2f}"
        saturated = f"{BREAK}both at the {each.saturated}" if each.saturated else ""
        p = "-" if each.holm is None else p_in_words(each.holm)
        name = f"{named(each.eval)}{BREAK}{named(each.metric)}"
        difference = f"{each.difference:+.2f}{bounds}{saturated}"
        table.add(name, *model, sides, difference, p, str(len(each.seeds)))
    return table


def eval_table(results: Results, section: Section) -> Listing:
    """One row a condition, by the metric that the eval is judged by."""
    model = ("model",) if results.several_models else ()
    metric = section.metrics[0] if section.metrics else ""
    paper = ("paper",) if any(row.paper for row in section.rows) else ()
    table = Listing(
        ("arm", *model, "spec", "seeds", named(metric) or "result", *paper, "not scored"),
        title=f"{sentence(named(section.eval))}:",
        notes=[f"Paper: as printed in {PAPER}, of its own models."] if paper else [],
        right=frozenset({"seeds", named(metric), "paper"}),
    )
    for row in section.rows:
        condition, found = row.condition, row.by_metric.get(metric)
        model = (condition.model,) if results.several_models else ()
        printed = (BREAK.join(f"{number} {number.where}" for number in row.paper),) if paper else ()
        table.add(
            _arm(condition.arm, condition.size, results.counted),
            *model,
            condition.spec or "-",
            str(found.seeds if found else 0),
            _measured(found) if found else MISSING,
            *printed,
            "; ".join(filter(None, (row.missing(metric), row.why))),
        )
    return table


def _side(arm: str, spec: str | None) -> str:
    return f"{arm} {spec}" if spec else arm


def _measured(found: Measurement) -> str:
    if found.mean is None:
        return named(found.without)
    return f"{found.mean:.2f}" + ("" if found.low is None else f" {found.low:.2f} to {found.high:.2f}")


def savings_table(results: Results) -> Listing:
    """One row for every amount of data of an arm that another is compared with: how much less the other needs."""
    model = ("model",) if results.several_models else ()
    table = Listing(
        ("asked about", *model, "arm", "as good as", "seeds", "less data"),
        title="Data needed to do as well:",
        notes=[saved_note(results.saved), *savings_in_paper(results.saved)],
        right=frozenset({"seeds", "less data"}),
    )
    for each in results.saved:
        for saving in each.savings:
            model = (each.model,) if results.several_models else ()
            spec = f"{BREAK}{each.spec}" if each.spec else ""
            reference = _arm(each.reference, saving.size, results.counted)
            words = BREAK.join(in_words(saving, each.over))
            table.add(named(each.value), *model, f"{each.arm}{spec}", reference, str(each.seeds), words)
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


def _estimate(found: Estimate | None, form: str, gap: str = " ") -> str:
    if found is None:
        return "by position"
    interval = found.shown
    return f"{found.mean:{form}}" + (f"{gap}{interval.low:{form}} to {interval.high:{form}}" if interval else "")
