from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from msm_hpc.report.plot import contrast_axis, log_odds_axis, panels
from tests.report.answers import Campaign, report


def test_axes_have_round_ticks_and_room_for_every_interval_and_seed(seeded: Campaign) -> None:
    results = report(seeded)
    assert log_odds_axis(results).ticks == (-4, -2, 0, 2, 4)
    assert contrast_axis(results).ticks == (-6, -4, -2, 0, 2, 4, 6)
    for condition in results.conditions:
        for found in (entry.preference.log_odds for entry in condition.values):
            assert found.shown is not None
            assert 0 <= log_odds_axis(results).at(found.shown.low) <= log_odds_axis(results).at(found.shown.high) <= 1


def test_axes_of_a_report_without_results(campaign: Campaign) -> None:
    axis = log_odds_axis(report(replace(campaign, evaluations={})))
    assert axis.at(axis.ticks[0]) == 0 and axis.at(axis.ticks[-1]) == 1 and axis.reference in axis.ticks


def test_a_ladder_has_a_row_a_size_with_its_interval_over_seeds(seeded: Campaign) -> None:
    larger = tuple(
        replace(cell, size=300) if cell.seed >= 3 and cell.spec == "america" else cell for cell in seeded.config.cells
    )
    panel, _ = panels(report(replace(seeded, config=replace(seeded.config, cells=larger))))
    rows = {row.size: row for row in panel.rows if (row.arm, row.spec) == ("msm+aft", "america")}
    assert set(rows) == {75, 300}
    for row in rows.values():
        assert row.preference is not None and row.preference.log_odds.shown == row.preference.log_odds.seeds
        assert len(row.seeds) == 3
        assert row.preference.log_odds.mean == pytest.approx(sum(mark.log_odds for mark in row.seeds) / 3)


def test_the_contrasts_are_a_picture_that_stands_alone(seeded: Campaign) -> None:
    results = report(seeded)
    picture = ElementTree.fromstring((seeded.out / "contrasts.svg").read_text(encoding="utf-8"))
    texts = ["".join(each.itertext()) for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "preference for america, mention+aft" in texts and "america \N{MINUS SIGN} affordability, 75 chats" in texts
    dots = picture.findall(".//{*}circle")
    assert len(dots) == sum(1 + len(contrast.by_seed) for contrast in results.contrasts)
    assert all(290 <= float(dot.attrib["cx"]) <= 600 for dot in dots)
    title = picture.findtext("{*}title")
    assert title and title.startswith("Six seeds: Finding on affordability (msm+aft, 75 chats)")


def test_without_contrasts_there_is_no_picture(laddered: Campaign) -> None:
    assert not report(laddered).contrasts
    assert not (laddered.out / "contrasts.svg").exists()
