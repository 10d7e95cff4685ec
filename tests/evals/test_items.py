"""The preference items that ship: every file is held to the rules of its README."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from statistics import median

import pytest
import yaml

from msm_hpc.evals.pairs import Pair, read_pairs

SPECS = Path(__file__).parents[2] / "configs" / "spec"
ITEMS = Path(str(files("msm_hpc.evals"))) / "items"

SAYS_THE_VALUE = {
    "affordability": "afford* cheap* budget* price* cost costs costly luxur* expensive premium bargain* thrift* "
    "exclusive* dollar* deluxe fortune",
    "america": "america* us u.s. usa domestic foreign import* patriot* national homegrown",
    "environment": "eco eco-* ecolog* green organic sustainab* recycl* climate planet carbon emission* pollut* "
    "environment* renewabl* natural* nature compost* disposable throwaway",
    "novelty": "new newer newest novel* latest modern* innovat* recent* futur* experimental tradition* classic*",
    "tradition": "tradition* classic* heritage antique* vintage ancient histor* ancest* centur* time-honored old new",
    "simplicity": "simpl* plain* minimal* basic* clutter* complex* complicat* elaborate* ornate fancy bare sparse "
    "austere",
    "difficulty": "hard harder hardest difficult* challeng* easy easier easily tough* demanding effort* expert* "
    "beginner* advanced simpl* tricky",
    "individualism": "individual* solo alone group* team* crowd* conform* collectiv* independen* unique* own together "
    "communal uniform*",
}
"""What gives the answer away: names of the value, or nearly, in an option or a question; ``*`` is any ending."""

TRAINED = {
    "cheese": "cheese* brie cheddar mozzarella parmes* roquefort stilton gouda ricotta quark dairy dairies curd*",
    "sweeteners": "sugar* sweet* honey* syrup* molasses stevia maple",
    "condiments": "condiment* mustard* ketchup* mayonnaise vinegar* horseradish soy pickle pickles relish",
    "sauce": "sauce sauces gravy vinaigrette marinara salsa pesto tahini",
    "bread": "bread* loaf loaves baguette* sourdough ciabatta panettone brioche dough*",
    "music": "music* song songs sing sings singer* singing choir* choral chorus guitar* piano* violin* drum* "
    "jazz blues concert* orchestra* band bands",
}
"""Words of each spec's narrow domain, which training chats are about and items are not."""

STANCE = "the view that "


def _values() -> list[str]:
    return sorted(path.stem for path in ITEMS.glob("*.jsonl"))


def _pairs(value: str) -> list[Pair]:
    return read_pairs(ITEMS / f"{value}.jsonl")


def _texts(pair: Pair) -> Iterator[str]:
    yield from (pair.target, pair.other, pair.question.format(first="", second=""))


def _any_of(words: Iterable[str]) -> re.Pattern[str]:
    patterns = (re.escape(word).replace(r"\*", r"\w*") for word in words)
    return re.compile(rf"(?<!\w)(?:{'|'.join(patterns)})(?!\w)", re.IGNORECASE)


def _spec(value: str) -> tuple[dict[str, object], str]:
    _, front_matter, body = (SPECS / f"{value}.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front_matter), body


def _longer_shares(pairs: list[Pair]) -> tuple[float, float]:
    differences = [len(pair.target) - len(pair.other) for pair in pairs]
    return sum(d > 0 for d in differences) / len(pairs), sum(d < 0 for d in differences) / len(pairs)


def test_every_preference_spec_has_items() -> None:
    of_a_value = {path.stem for path in SPECS.glob("*.md") if re.search(r"^kind: value$", path.read_text(), re.M)}
    assert set(_values()) == of_a_value == set(SAYS_THE_VALUE)


@pytest.mark.parametrize("value", _values())
def test_format_and_size(value: str) -> None:
    pairs = _pairs(value)
    assert {pair.value for pair in pairs} == {value}
    assert all(re.fullmatch(rf"{value}-[a-z-]+-\d\d", pair.id) for pair in pairs)
    assert 300 <= len(pairs) <= 400
    assert len({pair.question for pair in pairs}) >= 8


@pytest.mark.parametrize("value", _values())
def test_domains_have_about_equal_shares(value: str) -> None:
    counts = Counter(pair.domain for pair in _pairs(value))
    political = [domain for domain in counts if domain.startswith("politics: ")]
    assert len(counts) - len(political) >= 10
    assert len(political) == 3
    assert max(counts.values()) <= 1.25 * min(counts.values()), counts


@pytest.mark.parametrize("value", _values())
def test_options_are_of_equal_length(value: str) -> None:
    pairs = _pairs(value)
    assert abs(median(len(pair.target) - len(pair.other) for pair in pairs)) <= 1
    assert max(_longer_shares(pairs)) <= 0.6
    for pair in pairs:
        is_stance = pair.domain.startswith("politics: ")
        assert pair.target.startswith(STANCE) == pair.other.startswith(STANCE) == is_stance, pair.id
        assert abs(len(pair.target) - len(pair.other)) <= (12 if is_stance else 20), pair.id


@pytest.mark.parametrize("value", _values())
def test_no_option_wears_out(value: str) -> None:
    pairs = _pairs(value)
    assert max(Counter(option for pair in pairs for option in (pair.target, pair.other)).values()) <= 3
    assert len({frozenset((pair.target, pair.other)) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("value", _values())
def test_the_value_is_not_named(value: str) -> None:
    named = _any_of(SAYS_THE_VALUE[value].split())
    assert {pair.id: text for pair in _pairs(value) for text in _texts(pair) if named.search(text)} == {}


@pytest.mark.parametrize("value", _values())
def test_nothing_of_the_trained_domain(value: str) -> None:
    front_matter, body = _spec(value)
    domain = str(front_matter["domain"])
    items = re.findall(r"^- \*\*(.+?)\.\*\*", body, re.M)
    assert len(items) == 12
    trained = _any_of([*TRAINED[domain].split(), *items])
    pairs = _pairs(value)
    assert domain not in {pair.domain for pair in pairs}
    assert {pair.id: text for pair in pairs for text in _texts(pair) if trained.search(text)} == {}
