"""The pages: each command is one that there is and composes what it says, and each link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from msm_hpc.cli.main import Commands
from msm_hpc.config.compose import OWN_FOLDER, choices, load_configs
from msm_hpc.report import tables

REPOSITORY = Path(__file__).parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCK, INLINE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL), re.compile(r"`(msm [^`]+)`")
OTHERS = ["CONTRIBUTING.md", "CHANGELOG.md", "configs/spec/README.md", "slurm/README.md", "benchmarks/README.md"]
BLANK = re.compile(r"…|\b[A-Z]{4,}\b")
"""What a reader is to fill in."""
YOURS = {"cluster=mysite": "cluster=slurm"}
"""What only a reader has, and what takes its place here."""


def commands(page: Path) -> Iterator[list[str]]:
    """What ``msm`` is given on a page, in code blocks and in sentences."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.findall(text):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if found := re.match(r"(?:\$ )?msm (\S.*)", line):
                yield from words(found[1])
    for found in INLINE.findall(BLOCK.sub("", text)):
        yield from words(" ".join(found.split()).removeprefix("msm "))


def words(line: str) -> Iterator[list[str]]:
    try:
        yield shlex.split(line, comments=True)
    except ValueError:  # a sentence about it, with an apostrophe
        yield line.split()[:1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_exist_and_compose(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OWN_FOLDER, str(REPOSITORY / "docs" / "thrift"))
    for given in commands(page):
        assert given[0] in {*Commands.deferred, "corpus", "--install-completion"}, given
    for overrides in {composed(given) for given in commands(page)}:
        assert not overrides or load_configs(overrides), overrides


def composed(given: Sequence[str]) -> tuple[str, ...]:
    """The overrides of a command that composes a shipped campaign, if there is nothing to fill in."""
    overrides = tuple(YOURS.get(each, each) for each in given if re.match(r"[\w.+@]+=", each))
    shipped = {f"campaign={name}" for name in choices("campaign")}
    return overrides if shipped & {*overrides} and not any(map(BLANK.search, given)) else ()


@pytest.mark.parametrize(
    "page", [*PAGES, *(REPOSITORY / name for name in OTHERS)], ids=lambda page: str(page.relative_to(REPOSITORY))
)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = link.partition("#")
        if not path.startswith("http"):
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not heading or heading in headings(target), link


def headings(page: Path) -> set[str]:
    """What a link to a part of a page calls it."""
    found = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_column_of_a_report_is_explained() -> None:
    page = (REPOSITORY / "docs" / "report.md").read_text(encoding="utf-8")
    shown = {*re.findall(r"`([^`]+)`", page)}
    files = (
        tables.MODELS,
        tables.CONDITIONS,
        tables.CONTRASTS,
        tables.SAVINGS,
        tables.COMPARISONS,
        tables.MEASUREMENTS,
    )
    for column in {column for columns in files for column in columns}:
        assert re.sub(r"^(rate|log_odds)_", "…_", column) in shown, column
