"""The patterns of reasoning, the prompts of the four passes, and which patterns are merged."""

from __future__ import annotations

import re
from typing import Any

import pytest

from msm_hpc.endpoint.prompts import Answer
from msm_hpc.evals.reasoning.patterns import (
    Canonical,
    Classified,
    Merged,
    Overlap,
    Pattern,
    Reason,
    Reasons,
    canonical_prompt,
    classify_prompt,
    merge_prompt,
    open_coding_prompt,
    overlaps,
    patterns,
)
from tests.evals.held_out import shared_with_specs

TRANSCRIPT = "{{ transcript }} </transcript>"


def test_two_families_of_nine() -> None:
    families = [pattern.family for pattern in patterns()]
    assert families == ["misaligned"] * 9 + ["aligned"] * 9
    assert len({pattern.id for pattern in patterns()}) == 18


@pytest.mark.parametrize("pattern", patterns(), ids=lambda pattern: pattern.id)
def test_a_pattern_is_one_sentence_and_two_examples(pattern: Pattern) -> None:
    assert re.fullmatch(r"[a-z_]+", pattern.id)
    assert re.fullmatch(r"The agent[^.]+\.", pattern.definition)
    assert pattern.positive != pattern.negative
    assert all(8 <= len(example.split()) <= 40 for example in (pattern.positive, pattern.negative))


def test_the_specs_hold_none_of_the_examples() -> None:
    assert not shared_with_specs("\n".join(f"{p.definition}\n{p.positive}\n{p.negative}" for p in patterns()))


def test_prompts_hold_what_they_are_about() -> None:
    reason = Reason(
        label="fears delay",
        description="It fears a delay.",
        quote="no time",
        direction="toward_harm",
        outcome="followed",
    )
    first, second, *_ = patterns()
    classify = classify_prompt(TRANSCRIPT, patterns())
    assert TRANSCRIPT in open_coding_prompt(TRANSCRIPT)
    assert TRANSCRIPT in classify
    assert all(f"{pattern.id}: {pattern.definition}" in classify for pattern in patterns())
    assert "2. [toward_harm] fears delay: It fears a delay." in canonical_prompt([reason, reason])
    assert "known already" not in canonical_prompt([reason])
    assert f"- {first.id} (misaligned): {first.definition}" in canonical_prompt([reason], [first])
    merged = merge_prompt(first, second, 0.804, ["a quote"])
    assert "80 percent" in merged
    assert '- "a quote"' in merged


@pytest.mark.parametrize("answer", [Reasons, Canonical, Classified, Merged])
def test_schemas_are_closed_and_require_every_field(answer: type[Answer]) -> None:
    for part in objects(answer.model_json_schema()):
        assert part["additionalProperties"] is False
        assert set(part["required"]) == set(part["properties"])


def test_patterns_merge_where_more_than_three_quarters_of_the_rarer_one_overlap() -> None:
    transcripts = {
        "common": {f"t{i}" for i in range(20)},
        "inside": {"t1", "t2", "t3"},
        "mostly": {"t1", "t2", "t3", "t4", "x"},
        "three_quarters": {"t5", "t6", "t7", "y"},
        "never": set(),
    }
    assert overlaps(transcripts) == [
        Overlap("common", "inside", 1.0),
        Overlap("inside", "mostly", 1.0),
        Overlap("common", "mostly", 0.8),
    ]


def objects(part: Any) -> list[dict[str, Any]]:
    """The schemas of objects inside a schema."""
    if isinstance(part, list):
        return [found for item in part for found in objects(item)]
    if not isinstance(part, dict):
        return []
    own = [part] if part.get("type") == "object" else []
    return own + [found for item in part.values() for found in objects(item)]
