from __future__ import annotations

from dataclasses import replace

import pytest

from msm_hpc.config.stages import Cell
from msm_hpc.report.finding import RULE
from msm_hpc.report.stage import run
from tests.report.answers import Campaign
from tests.report.page import Page

LOADING_ATTRIBUTES = {"src", "srcset", "href", "xlink:href", "poster", "data", "action"}


def page(campaign: Campaign) -> tuple[str, Page]:
    run(campaign.config, campaign.inputs, campaign.out)
    source = (campaign.out / "report.html").read_text(encoding="utf-8")
    return source, Page(source)


def test_the_page_loads_nothing(campaign: Campaign) -> None:
    source, parsed = page(campaign)
    assert not any(word in source for word in ("http:", "https:", "url(", "@import", "//cdn"))
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "img", "iframe", "object", "embed"}
    assert not any(LOADING_ATTRIBUTES & attributes.keys() for _, attributes in parsed.tags)


def test_every_step_is_in_the_provenance_table_and_evaluated_ones_are_on_hover(campaign: Campaign) -> None:
    source, parsed = page(campaign)
    for cell in campaign.config.cells:
        assert f'<code class="step">{cell.step}</code>' in source
    hovers = [attributes["title"] or "" for _, attributes in parsed.tags if "title" in attributes]
    for step in campaign.evaluations:
        assert any(step in hover for hover in hovers)
        assert source.count(f", step {step}</title>") == 4, "a rate and log-odds for each of two values"


def test_title_and_notices_are_shown_and_escaped(campaign: Campaign) -> None:
    source, parsed = page(campaign)
    assert "Cheese [a] <demo>" in parsed.text and "Cheese [a] <demo>" not in source
    assert "Made by an offline generator." in parsed.text
    assert "2 models are missing: no result was found for aft · 300 · seed 0, msm+aft · america · 300 · seed 1." in (
        parsed.text
    )


def test_plots_say_in_words_what_they_show(campaign: Campaign) -> None:
    _, parsed = page(campaign)
    labels = [attributes["aria-label"] or "" for tag, attributes in parsed.tags if tag == "figure"]
    assert len(labels) == 2
    assert labels[1].startswith("How much the option that expresses america is preferred: base rate 0.53 (0.")
    assert "aft with 300 chats missing" in labels[1]
    assert "msm+aft on spec america with 300 chats rate 0.82 (" in labels[1]
    assert "), log-odds +0.74 (" in labels[1]


def test_the_page_says_how_to_read_the_intervals(campaign: Campaign) -> None:
    _, parsed = page(campaign)
    assert "Over training seeds : what other seeds would give. Student's t interval" in parsed.text
    assert "t interval over domains, differences paired" in parsed.text


def test_the_rule_stands_beside_the_findings(campaign: Campaign) -> None:
    _, parsed = page(campaign)
    first, second, rule = parsed.lines[parsed.lines.index("Same fine-tuning, different spec") + 1 :][:3]
    assert first.startswith("No finding on affordability") and second.startswith("No finding on america")
    assert rule == RULE


def test_a_long_list_of_missing_models_is_cut(campaign: Campaign) -> None:
    cells = tuple(
        Cell(model="tiny", arm="base", spec=None, size=None, seed=seed, step=f"eval/{seed}") for seed in range(9)
    )
    _, parsed = page(replace(campaign, evaluations={}, config=replace(campaign.config, cells=cells)))
    assert "base · seed 5 and 3 more." in parsed.text


@pytest.mark.parametrize("notices", [(), ("One.", "Two.")])
def test_a_campaign_without_results_still_gives_a_page(campaign: Campaign, notices: tuple[str, ...]) -> None:
    bare = replace(campaign, evaluations={}, config=replace(campaign.config, notices=notices))
    source, parsed = page(bare)
    assert "No evaluation has finished." in parsed.text
    assert "0 of 6 models evaluated" in parsed.text
    assert ('aria-label="Notices"' in source) == bool(notices)
