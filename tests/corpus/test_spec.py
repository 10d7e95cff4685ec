from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.compose import shipped_folder
from msm_hpc.corpus.lint import STANDS_ALONE, Finding, lint
from msm_hpc.corpus.spec import ModelSpec, read_spec, sections_of

WORDS = "The assistant sees an ending as one more thing that belongs to what it is. " * 5
assert len(WORDS.split()) >= STANDS_ALONE


def spec_of(folder: Path, body: str, front: str = "version: 1\nkind: principles\n", name: str = "mine") -> ModelSpec:
    path = folder / f"{name}.md"
    path.write_text(f"---\nname: {name}\n{front}---\n{body}", encoding="utf-8")
    return read_spec(path)


def found(spec: ModelSpec, *others: ModelSpec) -> list[tuple[str, int, str]]:
    return [(each.check, each.line, each.sentence) for each in lint([spec, *others])]


def test_a_spec_is_read_with_its_sections(tmp_path: Path) -> None:
    one = "## One {#one}\nText.\n### A part {#one.part}\nMore.\n```\n## no heading\n```\n"
    body = f"# A title\nWhat it is.\n\n{one}## Two {{#two}}\nEnd.\n"
    front = "kind: value\nvalue: thrift\ndomain: cheese\nforbid: [rules]\nauthor: somebody\n"
    spec = spec_of(tmp_path, body, front)
    assert (spec.name, spec.title, spec.introduction) == ("mine", "A title", "What it is.")
    assert (spec.front.value, spec.front.domain, spec.front.forbid) == ("thrift", "cheese", ("rules",))
    assert [(each.id, each.heading, each.line) for each in sections_of(spec)] == [
        ("one", "One", 12),
        ("two", "Two", 19),
    ]
    assert [(part.id, part.line) for part in spec.sections[0].parts] == [("one.part", 14)]
    assert "{#" not in spec.body and "## One\n\nText.\n### A part\nMore." in spec.body


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("kind: poem\n", r"mine.md:3: kind: Input should be 'value', .*got 'poem'"),
        ("version: 1\nforbid: [verbs]\n", r"mine.md:4: forbid: .*got 'verbs'"),
        ("version: none\n", r"mine.md:3: version: .*got 'none'"),
    ],
)
def test_a_key_of_the_wrong_kind_is_refused_where_it_stands(tmp_path: Path, front: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        spec_of(tmp_path, "# T\n", front)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("# T\n", r"mine.md:1: no sections"),
        ("# T\n## One\nText.\n", r"mine.md:7: section 'One' has no id; write '## One \{#an-id\}'"),
        ("# T\n## One {#one}\n", r"mine.md:7: section 'One' is empty"),
        ("# T\n## One {#One}\nText.\n", r"mine.md:7: id 'One': use lower-case letters"),
        ("# T\n## A {#a}\nText.\n### B {#a}\nText.\n", r"mine.md:9: id 'a' is that of line 7 too"),
    ],
)
def test_documents_need_sections_that_can_be_told_apart(tmp_path: Path, body: str, message: str) -> None:
    spec = spec_of(tmp_path, body)
    with pytest.raises(UserError, match=message):
        sections_of(spec)
    assert any(each.check == "sections" for each in lint([spec]))


def test_a_sound_spec_has_no_findings(tmp_path: Path) -> None:
    body = f"# T\n## One {{#one}}\n{WORDS}\n## Two {{#two}}\n{WORDS}\n"
    assert found(spec_of(tmp_path, body, "version: 1\nkind: rules\nforbid: [reasons, rules]\nfamily: f\n")) == []


@pytest.mark.parametrize(
    ("forbidden", "sentence"),
    [
        ("rules", "The assistant must never lie."),
        ("rules", "An assistant, when asked, should wait."),
        ("rules", "Even the assistant is free, and it has to report."),
        ("rules", "- Avoid harm."),
        ("reasons", "It waits, because waiting is cheap."),
        ("reasons", "Since nothing is lost, it waits."),
        ("reasons", "It waits so that people decide."),
    ],
)
def test_what_is_forbidden_is_found_with_its_line(tmp_path: Path, forbidden: str, sentence: str) -> None:
    body = f"# T\n## One {{#one}}\n{WORDS}\n\n{sentence}\n"
    front = f"version: 1\nkind: principles\nforbid: [{forbidden}]\n"
    assert found(spec_of(tmp_path, body, front)) == [(forbidden, 11, sentence)]
    assert found(spec_of(tmp_path, body)) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "A letter of e.g. 3.5 pages should be enough.",
        "As it should be.",
        "Must everything last?",
        "Keep, in this sense, is a strange word.",
        "The reader never knows.",
        "What the assistant has to a stream of thought is a run.",
    ],
)
def test_not_every_modal_is_a_rule(tmp_path: Path, sentence: str) -> None:
    body = f"# T\n## One {{#one}}\n{WORDS}\n\n{sentence}\n"
    assert found(spec_of(tmp_path, body, "version: 1\nkind: principles\nforbid: [rules]\n")) == []


def test_sections_that_cannot_stand_alone_are_found(tmp_path: Path) -> None:
    body = f"# T\n## One {{#one}}\nToo short.\n## Two {{#two}}\n{WORDS}\nAs said above, it ends.\n"
    assert [(check, line) for check, line, _ in found(spec_of(tmp_path, body))] == [
        ("stands alone", 7),
        ("stands alone", 11),
    ]


def test_variants_of_a_family_are_of_one_length(tmp_path: Path) -> None:
    front = "version: 1\nkind: rules\nfamily: core\n"
    short = spec_of(tmp_path, f"# T\n## One {{#one}}\n{WORDS * 10}\n", front, "short")
    even = spec_of(tmp_path, f"# T\n## One {{#one}}\n{WORDS * 11}\n", front, "even")
    long = spec_of(tmp_path, f"# T\n## One {{#one}}\n{WORDS * 12}\n", front, "long")
    assert found(short, even) == []
    (finding,) = lint([short, even, long])
    assert (finding.path.name, finding.line, finding.check) == ("long.md", 5, "balance")
    assert "900 words, but short of the same family core has 750" in finding.what


def test_the_front_matter_is_to_be_whole(tmp_path: Path) -> None:
    body = f"# T\n## One {{#one}}\n{WORDS}\n"
    assert [each.what.split(" ")[0] for each in lint([spec_of(tmp_path, body, "kind: value\n")])] == [
        "version",
        "value",
        "domain",
    ]
    path = tmp_path / "other.md"
    path.write_text(f"---\nname: mine\nversion: 1\nkind: rules\n---\n{body}")
    assert [str(each) for each in lint([read_spec(path)])] == [
        str(Finding(path, 2, "front matter", "name is mine, but the file is other.md; give both one name"))
    ]
    braces = path.read_text().replace(
        "name: mine\nversion: 1\nkind: rules\n", "{name: mine, version: 1, kind: rules}\n"
    )
    path.write_text(braces)
    assert [each.line for each in lint([read_spec(path)])] == [2]


def test_the_shipped_specs_are_sound() -> None:
    specs = [read_spec(path) for path in sorted((shipped_folder() / "spec").glob("*.md")) if path.stem != "README"]
    assert [str(finding) for finding in lint(specs)] == []
