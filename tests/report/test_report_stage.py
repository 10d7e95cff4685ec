from __future__ import annotations

import csv
import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.stages import Cell, ReportConfig
from msm_hpc.report.results import Condition, Estimate, Results, load_results
from msm_hpc.report.statistics import Interval, wilson
from tests.report.answers import VALUES, Campaign, answer, report, shown, write_answers, write_log_odds


def condition(results: Results, arm: str, spec: str | None) -> Condition:
    [found] = [entry for entry in results.conditions if (entry.arm, entry.spec) == (arm, spec)]
    return found


def test_rates_of_one_model_have_plain_wilson_intervals(campaign: Campaign) -> None:
    results = report(campaign)
    [base] = condition(results, "base", None).cells
    assert [entry.value for entry in base.values] == ["affordability", "america"]
    found = base.values[0].preference
    assert (found.preferred, found.n, found.effective_n) == (21, 40, 40)
    assert found.rate == Estimate(21 / 40, wilson(21 / 40, 40), None)
    assert [(part.domain, part.preference.preferred, part.preference.n) for part in base.values[0].domains] == [
        ("art", 6, 10),
        ("books", 5, 10),
        ("games", 5, 10),
        ("tools", 5, 10),
    ]
    assert found.orders_agree == 36


def test_log_odds_of_one_model_have_students_interval_over_pairs(campaign: Campaign) -> None:
    [base] = condition(report(campaign), "base", None).cells
    found = base.values[0].preference.log_odds
    margins = [1.0] * 21 + [-0.5] * 19
    half = 2.02269 * stdev(margins) / math.sqrt(40)
    assert found.mean == pytest.approx(fmean(margins))
    assert found.pairs is not None and found.seeds is None
    assert (found.pairs.low, found.pairs.high) == pytest.approx((found.mean - half, found.mean + half), rel=1e-5)


def test_intervals_over_seeds_are_students_of_one_number_a_seed(seeded: Campaign) -> None:
    found = condition(report(seeded), "msm+aft", "affordability").preference("america")
    assert found is not None and found.log_odds.seeds is not None and found.rate and found.rate.seeds is not None
    means = [1.2 + moved for moved in (0.3, -0.2, 0.1, -0.4, 0.24, -0.04)]
    half = 2.57058 * stdev(means) / math.sqrt(6)
    assert found.log_odds.mean == pytest.approx(fmean(means))
    assert found.log_odds.seeds.high - found.log_odds.mean == pytest.approx(half, rel=1e-5)
    assert found.rate.seeds.high == 1.0, "no rate is above 1"
    assert found.log_odds.shown == found.log_odds.seeds


def test_one_seed_has_no_interval_over_seeds(campaign: Campaign) -> None:
    found = condition(report(campaign), "msm+aft", "america").preference("america")
    assert found is not None and found.rate and found.rate.seeds is None and found.log_odds.seeds is None
    assert found.log_odds.shown == found.log_odds.pairs


def test_a_single_domain_has_no_interval_of_log_odds_over_pairs(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    rows = (answer("america", "art", index, True) for index in range(9))
    (tmp_path / "eval" / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cell = Cell(model="tiny", arm="base", spec=None, size=None, seed=0, step="eval/a")
    results = report(Campaign(ReportConfig(title="", cells=(cell,)), {"eval/a": tmp_path / "eval"}, tmp_path))
    found = results.conditions[0].preference("america")
    assert found is not None and found.log_odds.shown is None and found.rate and found.rate.pairs == Interval(0.0, 1.0)
    assert "+1.00\n" in shown(results, 80)


def test_a_model_that_answers_by_position_has_log_odds_and_no_rate(seeded: Campaign) -> None:
    gated = seeded.config.cells[-1]
    file = seeded.evaluations[gated.step] / "answers.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:
        row |= {"margin_forward": row["margin"] + 9, "margin_backward": row["margin"] - 9}
    before = condition(report(seeded), gated.arm, gated.spec).values[0].preference
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = report(seeded)
    found = condition(results, gated.arm, gated.spec).values[0].preference
    assert (found.rate, found.log_odds) == (None, before.log_odds) and before.rate is not None
    measured = {row.metric: row for row in results.measured if gated.step in row.steps and row.group is None}
    assert measured["toward_first"].mean is not None and measured["toward_first"].mean > 1
    assert measured["preferred"].missing["by_position"] == len(rows) / len(results.values)
    assert {contrast.arm: contrast.rate for contrast in results.contrasts}[gated.arm] is None
    assert "by position" in shown(results, 200)
    page, table = ((seeded.out / name).read_text() for name in ("report.html", "conditions.csv"))
    assert page.count("by position") > 5 and ",by_position," in table


def test_pooled_rates_add_the_seeds_and_are_worth_fewer_pairs(campaign: Campaign) -> None:
    pooled = condition(report(campaign), "msm+aft", "affordability").preference("affordability")
    assert pooled is not None and pooled.rate and pooled.rate.pairs is not None
    assert (pooled.preferred, pooled.n) == (37 + 33, 80)
    assert pooled.effective_n < 40
    plain = wilson(70 / 80, 80)
    assert pooled.rate.pairs.low < plain.low and pooled.rate.pairs.high > plain.high


def test_seeds_asked_the_same_pairs_do_not_add_pairs(tmp_path: Path) -> None:
    """Domains that do not differ: the rate of two seeds is worth the pairs of one, over domains and in each."""
    write_answers(tmp_path / "eval", {"america": 5})
    cells = tuple(
        Cell(model="tiny", arm="base", spec=None, size=None, seed=seed, step=f"eval/{seed}") for seed in (0, 1)
    )
    config = ReportConfig(title="", cells=cells, notices=())
    once = report(Campaign(replace(config, cells=cells[:1]), {"eval/0": tmp_path / "eval"}, tmp_path))
    twice = report(Campaign(config, {cell.step: tmp_path / "eval" for cell in cells}, tmp_path))
    [found], [found_twice] = once.conditions[0].values, twice.conditions[0].values
    assert found_twice.preference.n == 2 * found.preference.n == 80
    assert found_twice.preference.effective_n == pytest.approx(found.preference.effective_n)
    assert [part.preference.effective_n for part in found_twice.domains] == [10, 10, 10, 10]
    wider, same = found.preference.log_odds.pairs, found_twice.preference.log_odds.pairs
    assert wider is not None and same is not None and (wider.low, wider.high) == pytest.approx((same.low, same.high))


def test_a_missing_cell_is_missing_and_its_siblings_are_not(campaign: Campaign) -> None:
    results = report(campaign)
    assert condition(results, "aft", None).preference("america") is None
    america = condition(results, "msm+aft", "america")
    assert [(cell.cell.seed, cell.missing) for cell in america.cells] == [(0, False), (1, True)]
    found = america.preference("america")
    assert found is not None and found.n == 40


def test_conditions_are_in_the_order_of_the_cells(campaign: Campaign) -> None:
    order = [(entry.arm, entry.spec) for entry in report(campaign).conditions]
    assert order == [("base", None), ("aft", None), ("msm+aft", "affordability"), ("msm+aft", "america")]
    backwards = replace(campaign, config=replace(campaign.config, cells=campaign.config.cells[::-1]))
    assert [(entry.arm, entry.spec) for entry in report(backwards).conditions] == order[::-1]
    assert [cell.cell.seed for cell in report(backwards).conditions[0].cells] == [0, 1]


def test_contrasts_use_the_seeds_that_both_specs_have(campaign: Campaign) -> None:
    affordability, america = report(campaign).contrasts
    assert affordability.seeds == america.seeds == (0,)
    assert affordability.rate and affordability.rate.mean == pytest.approx(37 / 40 - 17 / 40)
    assert affordability.rate.seeds is affordability.log_odds.seeds is None
    over_pairs = affordability.rate.pairs
    assert over_pairs is not None and over_pairs.low <= affordability.rate.mean <= over_pairs.high


def test_a_contrast_is_the_values_own_spec_minus_the_other(campaign: Campaign) -> None:
    affordability, america = report(campaign).contrasts
    assert (affordability.value, affordability.spec, affordability.other_spec) == (*VALUES[:1], *VALUES)
    assert (america.value, america.spec, america.other_spec) == (*VALUES[1:], *VALUES[::-1])
    assert america.rate and america.rate.mean == pytest.approx(33 / 40 - 21 / 40)
    assert america.log_odds.mean == pytest.approx((33 - 21) * 1.5 / 40)


def test_a_value_that_no_spec_is_named_after_takes_the_specs_in_order(campaign: Campaign) -> None:
    cells = tuple(replace(cell, spec=cell.spec and f"my-{cell.spec}") for cell in campaign.config.cells)
    contrasts = report(replace(campaign, config=replace(campaign.config, cells=cells))).contrasts
    assert {(each.spec, each.other_spec) for each in contrasts} == {("my-affordability", "my-america")}
    assert contrasts[1].rate is not None
    assert contrasts[1].rate.mean == pytest.approx(21 / 40 - 33 / 40)


def test_contrasts_are_paired_by_seed(seeded: Campaign) -> None:
    """Both models of a seed move together, and so far that only the difference within a seed shows the specs."""
    config = replace(seeded.config, contrasts=("msm+aft",))
    first, second = ([cell for cell in config.cells if (cell.arm, cell.spec) == ("msm+aft", spec)] for spec in VALUES)
    for seed, (cell, other) in enumerate(zip(first, second, strict=True)):
        for step, mean in ((cell.step, 3 * seed + 0.5), (other.step, 3 * seed + 0.1 * (seed % 2))):
            shutil.rmtree(seeded.evaluations[step])
            write_log_odds(seeded.evaluations[step], dict.fromkeys(VALUES, mean))
    contrast, _ = report(replace(seeded, config=config)).contrasts
    assert contrast.by_seed == pytest.approx([0.5, 0.4] * 3)
    assert contrast.log_odds.mean == pytest.approx(0.45) and contrast.agreeing == 6
    interval = contrast.log_odds.seeds
    assert interval is not None
    assert interval.high - 0.45 == pytest.approx(2.57058 * stdev([0.5, 0.4] * 3) / math.sqrt(6), rel=1e-5)


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
    assert text.count("tiny") == text.count("[b]larger") == 8
    page = (campaign.out / "report.html").read_text(encoding="utf-8")
    assert "[b]larger · msm+aft · america · 300 · seed 1" in page
    assert "tiny base rate 0.53" in page and "<small>[b]larger · america</small>" in page
    report(campaign)
    assert "tiny" not in (campaign.out / "report.html").read_text(encoding="utf-8"), "a single model is not shown"


def read_csv(campaign: Campaign, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((campaign.out / name).read_text(encoding="utf-8"))))


def test_csv_is_tidy_and_names_every_step(campaign: Campaign) -> None:
    report(campaign)
    rows = read_csv(campaign, "results.csv")
    assert {row["step"] for row in rows} == {cell.step for cell in campaign.config.cells}
    assert len(rows) == 4 * 2 + 2
    missing = next(row for row in rows if row["arm"] == "aft")
    assert missing["rate"] == missing["log_odds"] == missing["value"] == ""
    there = [row for row in rows if row["value"]]
    assert all(float(row["rate"]) == int(row["preferred"]) / int(row["n"]) for row in there)
    assert all(float(row["rate_independent_low"]) < float(row["rate_independent_high"]) for row in there)
    assert "rate_pairs_low" not in missing, "not clustered by domain, as conditions.csv has it"


def test_csv_of_conditions_has_both_intervals(seeded: Campaign) -> None:
    results = report(seeded)
    rows = read_csv(seeded, "conditions.csv")
    assert len(rows) == 5 * 2
    [row] = [row for row in rows if (row["arm"], row["spec"], row["value"]) == ("msm+aft", "america", "america")]
    found = condition(results, "msm+aft", "america").preference("america")
    assert found is not None and found.rate and found.rate.pairs is not None and found.log_odds.seeds is not None
    assert (row["seeds"], float(row["rate"]), float(row["log_odds"])) == ("6", found.rate.mean, found.log_odds.mean)
    assert float(row["rate_pairs_low"]) == found.rate.pairs.low
    assert float(row["log_odds_seeds_high"]) == found.log_odds.seeds.high


def test_csv_of_a_single_seed_leaves_its_interval_empty(campaign: Campaign) -> None:
    report(campaign)
    rows = {(row["arm"], row["spec"]): row for row in read_csv(campaign, "conditions.csv")}
    assert rows["base", ""]["log_odds_pairs_low"] and not rows["base", ""]["log_odds_seeds_low"]
    assert (rows["aft", ""]["seeds"], rows["aft", ""]["rate"]) == ("0 of 1", "")


def test_csv_of_contrasts_says_which_are_findings(seeded: Campaign) -> None:
    results = report(seeded)
    rows = read_csv(seeded, "contrasts.csv")
    assert [(row["arm"], row["value"], row["finding"]) for row in rows] == [
        ("msm+aft", "affordability", "True"),
        ("msm+aft", "america", "True"),
        ("mention+aft", "affordability", "False"),
        ("mention+aft", "america", "False"),
    ]
    assert [float(row["log_odds"]) for row in rows] == [each.log_odds.mean for each in results.contrasts]


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
    assert set(first) == {
        "report.html",
        "results.json",
        "results.csv",
        "conditions.csv",
        "contrasts.csv",
        "savings.csv",
        "comparisons.csv",
        "measurements.csv",
        "results.parquet",
        "contrasts.svg",
    }


def test_a_narrow_terminal_gets_blocks(campaign: Campaign) -> None:
    narrow = shown(report(campaign), 40)
    assert max(map(len, narrow.splitlines())) <= 40
    assert "affordability specs affordability - america, arm msm+aft 300 chats, log-odds +0.75 +" in " ".join(
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
