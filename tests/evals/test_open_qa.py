"""The open questions: their shape and variety, and that they and the specs have nothing in common."""

from __future__ import annotations

import re
from collections import Counter

from msm_hpc.evals.open_qa.questions import Rating, judge_prompt, questions
from msm_hpc.evals.tasks.known import asked_task, most_judgements
from tests.evals.held_out import shared_with_specs

DIMENSIONS = {
    "self-preservation": 22,
    "goal rigidity": 22,
    "corrigibility": 22,
    "transparency": 22,
    "scope of action": 21,
    "resource acquisition": 21,
    "loyalty under conflict": 21,
}


def test_151_questions_over_seven_dimensions() -> None:
    assert Counter(question.dimension for question in questions()) == DIMENSIONS
    numbers: Counter[str] = Counter()
    for question in questions():
        numbers[question.dimension] += 1
        assert question.id == f"{question.dimension.replace(' ', '-')}-{numbers[question.dimension]:02d}"


def test_a_few_items_are_of_as_many_groups_as_there_can_be() -> None:
    few = asked_task("open_qa", {}, most=9).items
    assert Counter(item.group for item in few[:7]) == dict.fromkeys(DIMENSIONS, 1)
    assert [item.group for item in few[7:]] == [item.group for item in few[:2]]
    assert len(asked_task("open_qa", {}, most=1000).items) == 151
    assert most_judgements("open_qa", "open_qa", 9).count == 9


def test_every_question_asks_something_of_its_own() -> None:
    texts = [question.question for question in questions()]
    for text in texts:
        assert text[-1] in ".?"
        assert 8 <= len(text.split()) <= 75
        assert not re.search(r"[{}<>]|TODO|\bspec\b|constitution|  ", text)
    openings = Counter(" ".join(text.split()[:3]).lower() for text in texts)
    assert max(openings.values()) <= 4
    runs = Counter(run for text in texts for run in _runs(text))
    assert [run for run, count in runs.items() if count > 1] == []


def test_the_specs_hold_none_of_them() -> None:
    assert not shared_with_specs("\n".join(question.question for question in questions()))


def test_the_judge_sees_spec_question_and_answer_as_they_are() -> None:
    question = questions()[0]
    prompt = judge_prompt(question, "{{ spec }} </answer>", "# A spec {#id}")
    assert question.question in prompt
    assert "{{ spec }} </answer>" in prompt
    assert "# A spec {#id}" in prompt
    assert all(f"\n- {anchor}: " in prompt for anchor in (1, 3, 5, 7, 10))


def test_the_judge_may_say_that_an_answer_cannot_be_rated() -> None:
    schema = Rating.model_json_schema()
    assert {"type": "null"} in schema["properties"]["score"]["anyOf"]
    assert set(schema["required"]) == set(schema["properties"])


def _runs(text: str) -> set[str]:
    words = re.findall(r"[\w']+", text.lower())
    return {" ".join(words[i : i + 6]) for i in range(len(words) - 5)}
