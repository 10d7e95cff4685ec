"""Roots and names that would reach the scripts and the names of logs in another sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.compose import load_configs, root_of
from tests.composed import load_config, preflight

INERT = [
    "it's",
    'a"b',
    "$(touch x)",
    "`touch x`",
    "a;b",
    "my runs",
    "a\tb",
    "höhe",
    "-rf",
    "~",
    "#x",
    "a&b",
    "a*b",
    "[x]",
]


@pytest.mark.parametrize("name", INERT)
def test_what_is_inert_is_taken(tmp_path: Path, name: str) -> None:
    assert root_of([f"root={tmp_path}/{name}"]).name == name.strip("\"'") or name in ("it's", 'a"b')


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a%jb%A", r"has '%' in its path, which Slurm and submitit do not take as it is in the name of a log"),
        ("a\\b", r"has '\\\\' in its path"),
        ("a\nscancel -u me", r"has '\\n' in its path"),
        ("a\r\x1b[2J%", r"has '\\r', '\\x1b', '%' in its path"),
        ("a\udcff", r"has '\\udcff' in its path"),
        ("a" * 300, r"\(\d+ characters\) is too long: 1000 bytes are possible, 255 for each folder"),
        ("ö" * 200, r"is too long"),
        ("/".join(["long"] * 300), r"is too long"),
    ],
)
def test_a_root_that_would_mean_something_else_is_refused_by_every_command(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        root_of([f"root={tmp_path}/{name}"])


def test_a_root_is_refused_by_the_path_that_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a%j").mkdir()
    (tmp_path / "link").symlink_to("a%j")
    with pytest.raises(UserError, match=r"has '%' in its path"):
        preflight(load_config(["campaign=demo", f"root={tmp_path}/link"]))
    monkeypatch.chdir(tmp_path / "a%j")
    with pytest.raises(UserError, match=r"has '%' in its path"):
        load_config(["campaign=demo", "root=runs"])


@pytest.mark.parametrize("name", ["a" * 300, "a/../b", "'a%j'", "'a b'"])
def test_a_campaign_by_such_a_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"campaign\.name"):
        load_config(["campaign=demo", f"campaign.name={name}"])


def test_a_value_of_two_lines_does_not_reach_the_script() -> None:
    with pytest.raises(UserError, match=r"cluster\.resources\.cpu\.sbatch\.comment has a line break"):
        preflight(load_config(["campaign=demo", "cluster=slurm", 'cluster.resources.cpu.sbatch.comment="a\nb"']))


@pytest.mark.parametrize("empty", ["root=", "root= ", "root=''", "++root="])
def test_a_variable_that_is_not_set_is_no_root(empty: str) -> None:
    for read in (root_of, load_configs):
        with pytest.raises(UserError, match="root= names no folder; is it a variable of the shell that is not set"):
            read(["campaign=demo", empty])
