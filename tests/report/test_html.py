from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.base.notices import write_notices
from msm_hpc.config.stages import Cell, PackedFor
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


def test_what_evaluations_have_to_say_is_a_notice_once(campaign: Campaign) -> None:
    for folder in campaign.evaluations.values():
        write_notices(folder, ["Ids differ.", "Ids differ."])
    _, parsed = page(campaign)
    assert parsed.text.count("Ids differ.") == 1


def test_sizes_may_count_turns(campaign: Campaign) -> None:
    source, parsed = page(replace(campaign, config=replace(campaign.config, counted="turns")))
    assert "AFT turns" in parsed.text and "AFT chats" not in parsed.text
    assert "aft with 300 turns missing" in source


def test_what_was_left_out_is_shown_for_each_source_where_anything_was(campaign: Campaign, tmp_path: Path) -> None:
    amount = {"documents": 1_061, "tokens": 1}
    bad = {"rows": 1_064, "rejected": {"json": 2, "empty": 1}, "turns": "each_by_its_prefix", "available": amount}
    good = {"rows": 5, "rejected": {}, "turns": "as_printed", "available": amount, "dropped": {"documents": 0}}
    sources = {"mine": {**bad, "dropped": {"documents": 7}}, "whole": good}
    (tmp_path / "manifest.json").write_text(json.dumps({"sequence_length": 4096, "sources": sources}))
    packed = (
        PackedFor(model="tiny", stage="aft", step="pack/1"),
        PackedFor(model="tiny", stage="midtrain", step="pack/2"),
    )
    config = replace(campaign.config, packed=packed)
    run(config, replace(campaign.inputs, packed={"pack/1": tmp_path}), campaign.out)
    text = Page((campaign.out / "report.html").read_text(encoding="utf-8")).text
    assert "mine aft 1,064 3 2 json, 1 empty 7 1,061 turns 4,096" in text
    assert "whole" not in text
    assert "What no model was trained on" not in page(campaign)[1].text


@pytest.mark.parametrize("notices", [(), ("One.", "Two.")])
def test_a_campaign_without_results_still_gives_a_page(campaign: Campaign, notices: tuple[str, ...]) -> None:
    bare = replace(campaign, evaluations={}, config=replace(campaign.config, notices=notices))
    source, parsed = page(bare)
    assert "No evaluation has finished." in parsed.text
    assert "0 of 6 models evaluated" in parsed.text
    assert ('aria-label="Notices"' in source) == bool(notices)
