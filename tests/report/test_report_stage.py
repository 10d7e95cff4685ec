from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.base.errors import UserError
from msm_hpc.cli.views.results import print_results
from msm_hpc.config.stages import Cell, ReportConfig
from msm_hpc.report.results import Condition, Results, load_results
from msm_hpc.report.stage import run
from msm_hpc.report.statistics import wilson
from tests.report.answers import Campaign, answer, write_answers

GOLDEN_TABLE = """
Cheese [a] <demo>
arm      spec           AFT chats   seeds   affordability         america
─────────────────────────────────────────────────────────────────────────
base     -                      -       1  0.53 0.30-0.74  0.53 0.30-0.74
aft      -                    300  0 of 1         missing         missing
msm+aft  affordability        300       2  0.88 0.63-0.97  0.53 0.30-0.74
msm+aft  america              300  1 of 2  0.42 0.22-0.66  0.82 0.58-0.94
Rate of preferring the option that expresses the value, with 95% interval
clustered by domain.

Same fine-tuning, different spec:
           AFT
arm      chats  specs            asked about    difference (95% interval)  seeds
────────────────────────────────────────────────────────────────────────────────
msm+aft    300  affordability -  affordability     +0.50 (+0.50 to +0.50)      1
                america
msm+aft    300  affordability -  america           -0.30 (-0.30 to -0.30)      1
                america
The rate under the first spec minus that under the second; the interval does not
cover training seeds.

Note: Made by an offline generator.
"""


def report(campaign: Campaign) -> Results:
    run(campaign.config, campaign.inputs, campaign.out)
    return load_results(campaign.out)


def condition(results: Results, arm: str, spec: str | None) -> Condition:
    [found] = [entry for entry in results.conditions if (entry.arm, entry.spec) == (arm, spec)]
    return found


def test_rates_of_one_model_have_plain_wilson_intervals(campaign: Campaign) -> None:
    results = report(campaign)
    [base] = condition(results, "base", None).cells
    assert [entry.value for entry in base.rates] == ["affordability", "america"]
    rate = base.rates[0].rate
    assert (rate.preferred, rate.n, rate.effective_n) == (21, 40, 40)
    interval = wilson(21 / 40, 40)
    assert (rate.low, rate.high) == (interval.low, interval.high)
    assert [(part.domain, part.rate.preferred, part.rate.n) for part in base.rates[0].domains] == [
        ("art", 6, 10),
        ("books", 5, 10),
        ("games", 5, 10),
        ("tools", 5, 10),
    ]
    assert rate.margin == pytest.approx((21 * 1.0 - 19 * 0.5) / 40)
    assert rate.orders_agree == 36


def test_pooled_rates_add_the_seeds_and_are_worth_fewer_pairs(campaign: Campaign) -> None:
    pooled = condition(report(campaign), "msm+aft", "affordability").rate("affordability")
    assert pooled is not None
    assert (pooled.preferred, pooled.n) == (37 + 33, 80)
    assert pooled.effective_n < 40
    plain = wilson(70 / 80, 80)
    assert pooled.low < plain.low and pooled.high > plain.high


def test_seeds_asked_the_same_pairs_do_not_add_pairs(tmp_path: Path) -> None:
    """Domains that do not differ: the rate of two seeds is worth the pairs of one, over domains and in each."""
    write_answers(tmp_path / "eval", {"america": 5})
    cells = tuple(
        Cell(model="tiny", arm="base", spec=None, size=None, seed=seed, step=f"eval/{seed}") for seed in (0, 1)
    )
    config = ReportConfig(title="", cells=cells, notices=())
    once = report(Campaign(replace(config, cells=cells[:1]), {"eval/0": tmp_path / "eval"}, tmp_path))
    twice = report(Campaign(config, {cell.step: tmp_path / "eval" for cell in cells}, tmp_path))
    [rates], [twice_rates] = once.conditions[0].rates, twice.conditions[0].rates
    assert twice_rates.rate.n == 2 * rates.rate.n == 80
    assert twice_rates.rate.effective_n == pytest.approx(rates.rate.effective_n)
    assert [part.rate.effective_n for part in twice_rates.domains] == [10, 10, 10, 10]


def test_a_missing_cell_is_missing_and_its_siblings_are_not(campaign: Campaign) -> None:
    results = report(campaign)
    assert condition(results, "aft", None).rate("america") is None
    america = condition(results, "msm+aft", "america")
    assert [(cell.cell.seed, cell.missing) for cell in america.cells] == [(0, False), (1, True)]
    rate = america.rate("america")
    assert rate is not None and rate.n == 40


def test_conditions_are_in_the_order_of_the_cells(campaign: Campaign) -> None:
    order = [(entry.arm, entry.spec) for entry in report(campaign).conditions]
    assert order == [("base", None), ("aft", None), ("msm+aft", "affordability"), ("msm+aft", "america")]
    backwards = replace(campaign, config=replace(campaign.config, cells=campaign.config.cells[::-1]))
    assert [(entry.arm, entry.spec) for entry in report(backwards).conditions] == order[::-1]
    assert [cell.cell.seed for cell in report(backwards).conditions[0].cells] == [0, 1]


def test_contrasts_use_the_seeds_that_both_specs_have(campaign: Campaign) -> None:
    affordability, america = report(campaign).contrasts
    assert (affordability.value, affordability.spec, affordability.other_spec) == (
        "affordability",
        "affordability",
        "america",
    )
    assert affordability.seeds == america.seeds == (0,)
    assert affordability.difference == pytest.approx(37 / 40 - 17 / 40)
    assert america.difference == pytest.approx(21 / 40 - 33 / 40)
    assert affordability.low <= affordability.difference <= affordability.high


def test_no_contrast_between_different_amounts_of_fine_tuning(campaign: Campaign) -> None:
    cells = tuple(replace(cell, size=600) if cell.spec == "america" else cell for cell in campaign.config.cells)
    assert report(replace(campaign, config=replace(campaign.config, cells=cells))).contrasts == ()


def test_only_the_named_arms_are_contrasted_each_within_itself(campaign: Campaign) -> None:
    others = tuple(replace(cell, arm="msm+aft_cot") for cell in campaign.config.cells if cell.arm == "msm+aft")
    config = replace(campaign.config, cells=(*campaign.config.cells, *others))
    once = report(replace(campaign, config=config)).contrasts
    assert [contrast.arm for contrast in once] == ["msm+aft"] * 2
    twice = report(replace(campaign, config=replace(config, contrasts=("msm+aft", "msm+aft_cot")))).contrasts
    assert twice == (*once, *(replace(contrast, arm="msm+aft_cot") for contrast in once))
    assert report(replace(campaign, config=replace(config, contrasts=()))).contrasts == ()


def test_several_models_are_shown(campaign: Campaign) -> None:
    larger = tuple(replace(cell, model="[b]larger") for cell in campaign.config.cells)
    both = replace(campaign, config=replace(campaign.config, cells=(*campaign.config.cells, *larger)))
    results = report(both)
    assert [entry.model for entry in results.conditions] == ["tiny"] * 4 + ["[b]larger"] * 4
    assert [contrast.model for contrast in results.contrasts] == ["tiny"] * 2 + ["[b]larger"] * 2
    text = shown(results, 120)
    assert text.count("tiny") == text.count("[b]larger") == 6
    page = (campaign.out / "report.html").read_text(encoding="utf-8")
    assert "[b]larger · msm+aft · america · 300 · seed 1" in page
    assert "tiny base 0.53" in page and "<small>[b]larger · america</small>" in page
    report(campaign)
    assert "tiny" not in (campaign.out / "report.html").read_text(encoding="utf-8"), "a single model is not shown"


def test_csv_is_tidy_and_names_every_step(campaign: Campaign) -> None:
    report(campaign)
    rows = list(csv.DictReader(io.StringIO((campaign.out / "results.csv").read_text(encoding="utf-8"))))
    assert {row["step"] for row in rows} == {cell.step for cell in campaign.config.cells}
    assert len(rows) == 4 * 2 + 2
    missing = next(row for row in rows if row["arm"] == "aft")
    assert missing["rate"] == missing["value"] == ""
    assert all(float(row["rate"]) == int(row["preferred"]) / int(row["n"]) for row in rows if row["value"])


def test_json_carries_notices_and_every_step(campaign: Campaign) -> None:
    report(campaign)
    content = json.loads((campaign.out / "results.json").read_text(encoding="utf-8"))
    assert content["notices"] == ["Made by an offline generator."]
    steps = {cell["cell"]["step"] for entry in content["conditions"] for cell in entry["cells"]}
    assert steps == {cell.step for cell in campaign.config.cells}


def test_the_same_inputs_give_the_same_bytes(campaign: Campaign) -> None:
    report(campaign)
    first = {path.name: path.read_bytes() for path in campaign.out.iterdir()}
    report(campaign)
    assert first == {path.name: path.read_bytes() for path in campaign.out.iterdir()}
    assert set(first) == {"report.html", "results.json", "results.csv"}


def shown(results: Results, width: int) -> str:
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        print_results(console, results)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_the_terminal_table(campaign: Campaign) -> None:
    assert shown(report(campaign), 80) == GOLDEN_TABLE.strip("\n")
    narrow = shown(report(campaign), 40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert "specs affordability - america, asked about affordability, difference (95% interval) +0.50 (" in " ".join(
        narrow.split()
    )


def test_the_terminal_table_of_a_campaign_without_results(campaign: Campaign) -> None:
    text = shown(report(replace(campaign, evaluations={})), 80)
    assert text.count("missing") == len({(cell.arm, cell.spec) for cell in campaign.config.cells})
    assert "different spec" not in text


def test_brackets_in_names_are_not_markup(tmp_path: Path) -> None:
    write_answers(tmp_path / "eval", {"[red]value": 5})
    cell = Cell(model="tiny", arm="[b]arm", spec="[bold]spec", size=None, seed=0, step="eval/a")
    config = ReportConfig(title="Cheese [x] [/x]", cells=(cell,), notices=("A [link] to [/nothing].",))
    table = shown(report(Campaign(config, {"eval/a": tmp_path / "eval"}, tmp_path)), 120)
    for text in ("[red]value", "[bold]spec", "[b]arm", "Cheese [x] [/x]", "A [link] to [/nothing]."):
        assert text in table


def test_results_that_are_not_there_are_refused_by_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.json: no such file"):
        load_results(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"answers\.jsonl: no such file"),
        ("", r"answers\.jsonl: no answers"),
        ("{", r"answers\.jsonl:1: not valid JSON .*; .* this line"),
        ("[]", r"answers\.jsonl:1: Input should be an object, found \[\]"),
        (json.dumps(answer("america", "art", 0, True)) + "\n{}\n", r"answers\.jsonl:2: id: missing"),
        (
            json.dumps({**answer("america", "art", 0, True), "margin_forward": "1.0"}) + "\n",
            r"answers\.jsonl:1: margin_forward: Input should be a valid number, found '1\.0'; correct this row",
        ),
        (
            json.dumps({**answer("america", "art", 0, True), "margin_backward": float("nan")}) + "\n",
            r"answers\.jsonl:1: margin_backward: Input should be a finite number, found nan",
        ),
    ],
)
def test_malformed_answers_are_refused_by_file_line_and_field(
    campaign: Campaign, content: str | None, message: str
) -> None:
    path = next(iter(campaign.evaluations.values())) / "answers.jsonl"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        report(campaign)


def test_models_asked_about_different_pairs_are_not_compared(campaign: Campaign, tmp_path: Path) -> None:
    write_answers(tmp_path / "other", {"affordability": 5}, pairs_per_domain=12)
    cell = Cell(model="tiny", arm="init", spec=None, size=None, seed=0, step="eval/other")
    config = replace(campaign.config, cells=(*campaign.config.cells, cell))
    evaluations = {**campaign.evaluations, "eval/other": tmp_path / "other"}
    with pytest.raises(UserError, match="eval/other asked about different pairs"):
        report(replace(campaign, config=config, evaluations=evaluations))
