"""What an argument of a command is: an override, a step, or the name of a campaign."""

from __future__ import annotations

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.cli.arguments import Sorted, sort_arguments


@pytest.mark.parametrize(
    ("given", "step", "required", "expected"),
    [
        (None, None, True, Sorted(None, None, ())),
        (["demo"], None, True, Sorted(None, "demo", ())),
        (["root=/x", "demo", "~lora"], None, True, Sorted(None, "demo", ("root=/x", "~lora"))),
        (["++a=1", "+b"], None, True, Sorted(None, None, ("++a=1", "+b"))),
        (["aft/base", "a=1"], "step", True, Sorted("aft/base", None, ("a=1",))),
        (["a=1", "aft/base", "demo"], "step", True, Sorted("aft/base", "demo", ("a=1",))),
        (["midtrain"], "stage", True, Sorted("midtrain", None, ())),
        ([], "step", False, Sorted(None, None, ())),
        (["demo"], "step", False, Sorted(None, "demo", ())),
        (["train/0123", "root=/x"], "step", False, Sorted("train/0123", None, ("root=/x",))),
        (["train", "demo"], "step", False, Sorted("train", "demo", ())),
    ],
)
def test_arguments_are_told_apart(given: list[str], step: str | None, required: bool, expected: Sorted) -> None:
    assert sort_arguments(given, step, required) == expected


@pytest.mark.parametrize(
    ("given", "step", "message"),
    [
        (["demo", "other"], None, "demo and other are given, but a command works on one campaign"),
        (["aft/base", "demo", "other"], "step", "demo and other are given"),
        (["demo", "stages.aft.epochs", "3"], None, "a setting is KEY=VALUE, without blanks around ="),
        (["a=[75,", "300]"], None, "a=[75, 300]: quote for the shell what has blanks in it: 'a=[75, 300]'"),
        (["a=1"], "step", "which step? name it before a=1, as `msm plan --steps` lists them"),
        ([], "stage", "which stage? name it first, such as midtrain"),
        (["demo", "campaign=own"], None, "demo is a campaign that was run, and campaign=own composes one"),
    ],
)
def test_what_is_wrong_with_arguments_is_said(given: list[str], step: str | None, message: str) -> None:
    with pytest.raises(UserError) as error:
        sort_arguments(given, step)
    assert message in str(error.value)
