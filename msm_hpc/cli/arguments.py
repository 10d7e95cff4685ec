"""The arguments that commands share: which step, which campaign, and with which overrides."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.session import Session
from msm_hpc.cli.completion import complete
from msm_hpc.cli.terminal import terminal
from msm_hpc.config.compose import OWN_FOLDER, choices, root_of
from msm_hpc.store.campaigns import campaigns

EXPLAINED = {
    "STEP": "a step's name or id, as `msm plan --steps` lists them",
    "[STEP]": "a step's name or id; without it, every step that is not done",
    "CELL": """arm, spec, size and seed of a cell in `msm report`, such as
  msm+aft/america/75/seed0; or a step's name or id""",
    "STAGE": "a stage of training, such as pretrain, midtrain or aft",
    "[root=FOLDER]": "where the campaigns are; runs/ if it is left out",
    "[NAME]": "a campaign run below root=; needed to ask only among several",
    "[KEY=VALUE]...": """Hydra's overrides; configs/ has the choices:
  campaign=demo cluster=slurm model=tiny   one of each group
  sources.chats.ladder=[1250,2500,5000]    any field
  root=/shared/runs                        where all lies""",
}

NAMES = {
    "step": "as `msm plan --steps` lists them",
    "stage": "such as midtrain",
    "cell": "such as msm/america/seed0: its arm, spec, size and seed, as far as there are any",
}

EXAMPLES = {
    "run": (
        ("msm run campaign=demo cluster=local", "here, with progress"),
        ("msm run campaign=demo cluster=slurm root=/shared/runs", "submit, and return"),
        ("msm run demo root=/shared/runs", "continue: retry what failed"),
    ),
    "plan": (
        ("msm plan campaign=demo cluster=slurm", "memory, time, job arrays"),
        ("msm plan --steps demo | grep aft/", "names and ids of steps"),
        ("msm plan --scripts campaign=demo cluster=slurm", "the sbatch scripts too"),
        ("msm plan --mermaid campaign=demo > graph.mmd", "the graph, to be drawn"),
    ),
    "preview": (
        ("msm corpus preview campaign=philosophy", "before anything is asked"),
        ("msm corpus preview philosophy root=/shared/runs", "with the types of its outline, once that is there"),
    ),
    "rehearse": (("msm rehearse campaign=demo model=qwen3_32b", "all its steps, here"),),
    "probe": (("msm probe midtrain demo", "for layout=auto and forecasts"),),
    "status": (
        ("msm status", "of the only campaign below runs/"),
        ("msm status demo root=/shared/runs", "by its name"),
        ("msm status --watch --every 30", "again and again, until all is done"),
        ("msm status campaign=demo stages.aft.epochs=2", "as it would be with a change"),
    ),
    "cancel": (
        ("msm cancel demo", "show what would be cancelled, and ask"),
        ("msm cancel demo root=/shared/runs --yes", "without asking"),
    ),
    "logs": (
        ("msm logs aft/base/seed0", "a step by its name"),
        ("msm logs train/3ca2 demo root=/shared/runs", "or by the start of its id"),
        ("msm logs -f aft/base/seed0", "as it is written, until the step ends"),
    ),
    "why": (
        ("msm why", "of every step that will run"),
        ("msm why aft/base/seed0 demo", "of one step"),
        ("msm why campaign=demo stages.aft.epochs=2", "what a change would run again"),
    ),
    "triage": (
        ("msm triage", "of all that failed, sort by sort"),
        ("msm triage aft/base/seed0 demo", "of one step"),
    ),
    "trace": (
        ("msm trace msm+aft/affordability/75/seed0", "of a cell, what it is made of and by which jobs"),
        ("msm trace aft/base/seed0 --json", "of a step, for machines"),
    ),
    "transcripts": (
        ("msm transcripts", "of all evals that are scored"),
        ("msm transcripts score/init/seed0/agentic demo --out logs", "of one, elsewhere"),
    ),
    "config": (
        ("msm config campaign=demo stages.aft.epochs=2", "as a run would take it"),
        ("msm config demo root=/shared/runs", "as a campaign was run"),
    ),
    "gc": (
        ("msm gc root=/shared/runs", "what there is to delete, and how large it is"),
        ("msm gc root=/shared/runs --days 30 --yes", "delete what is older than 30 days"),
    ),
    "report": (("msm report demo root=/shared/runs", "what is there, missing cells included"),),
    "stage": (("msm stage generate/tokenizer campaign=demo", "one step, in the foreground"),),
}

Arguments = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME] [KEY=VALUE]...", hidden=True, autocompletion=complete)
]
StepArguments = Annotated[
    list[str] | None, typer.Argument(metavar="STEP [NAME] [KEY=VALUE]...", hidden=True, autocompletion=complete)
]
OptionalStepArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[STEP] [NAME] [KEY=VALUE]...", hidden=True, autocompletion=complete)
]
RootArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[root=FOLDER]", hidden=True, autocompletion=complete)
]
CellArguments = Annotated[
    list[str] | None, typer.Argument(metavar="CELL [NAME] [KEY=VALUE]...", hidden=True, autocompletion=complete)
]
StageArguments = Annotated[
    list[str] | None, typer.Argument(metavar="STAGE [NAME] [KEY=VALUE]...", hidden=True, autocompletion=complete)
]
ConfigDir = Annotated[
    Path | None,
    typer.Option(
        "--config-dir",
        metavar="DIR",
        envvar=OWN_FOLDER,
        help="A folder of configuration files of your own, searched before the shipped ones.",
    ),
]


class CampaignCommand(TyperCommand):
    """A command on a campaign; its help explains, word by word, what :func:`sort_arguments` tells apart."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words of the usage line."""
        return ["[OPTIONS]", *self._words]

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write what comes below the options."""
        lines = ["", "Arguments:"]
        for word in self._words:
            first, *more = EXPLAINED[word].splitlines()
            lines += [f"  {word:<14}  {first}", *(" " * 18 + line for line in more)]
        lines += ["", "Examples:"]
        for example, meaning in EXAMPLES[str(self.name)]:
            lines += [f"  {example}", f"      {meaning}"]
        formatter.write("\n".join([*lines, ""]))

    @property
    def _words(self) -> list[str]:
        given = (getattr(param, "metavar", None) for param in self.params if param.param_type_name == "argument")
        return " ".join(metavar for metavar in given if metavar).split()


@dataclass(frozen=True)
class Sorted:
    """The arguments of a command by what they are."""

    step: str | None
    name: str | None
    overrides: tuple[str, ...]

    def session(self, config_dir: Path | None, named: bool = False) -> Session:
        """The campaign they name, composed with the files in ``config_dir`` before the shipped ones.

        Raises:
            UserError: ``named``, as something is about to run, and they name none; which there are.
        """
        if config_dir is not None:
            os.environ[OWN_FOLDER] = str(config_dir)
        if named and self.name is None and not any(each.startswith("campaign=") for each in self.overrides):
            raise UserError("\n".join(["which campaign? Nothing was run.", *what_there_is(root_of(self.overrides))]))
        return Session(self.overrides, terminal(), self.name)


def what_there_is(root: Path) -> Iterator[str]:
    """Lines on the choices to compose a campaign of, and on the campaigns that were run below ``root``."""
    for group in ("campaign", "model", "cluster"):
        yield f"  {group + '=':<10}{', '.join(choices(group))}"
    yield "To start one: `msm run campaign=demo cluster=local`"
    where = "" if root == root_of(()) else f" root={root}"
    if known := campaigns(root):
        yield f"Run below {root} before: {', '.join(known)}. To continue: `msm run {known[0]}{where}`"


def sort_arguments(given: Sequence[str] | None, step: str | None = None, required: bool = True) -> Sorted:
    """Tell overrides, a step and a campaign's name apart.

    An override has ``=`` in it, or starts with ``~`` or ``+``. Of the other words a command that takes a ``step``
    (a "step", "stage" or "cell") takes the first, and what remains is the name. Where it does without a step, a word
    alone is the name unless it has a slash, as names and ids of steps have and names of campaigns never.

    Raises:
        UserError: a step is required and none is given, or more is given than a name.
    """
    for each, following in pairwise(given or ()):
        if _is_override(each) and each.count("[") > each.count("]"):
            raise UserError(f"{each} {following}: quote for the shell what has blanks in it: '{each} {following}'")
    overrides = tuple(each for each in given or () if _is_override(each))
    words = [each for each in given or () if not _is_override(each)]
    found = words.pop(0) if step and words and (required or len(words) > 1 or "/" in words[0]) else None
    if step and required and found is None:
        raise UserError(_which(step, overrides))
    return Sorted(found, _name(words, overrides), overrides)


def _is_override(argument: str) -> bool:
    return "=" in argument or argument.startswith(("~", "+"))


def _which(step: str, overrides: Sequence[str]) -> str:
    before = f" before {overrides[0]}" if overrides else " first"
    return f"which {step}? name it{before}, {NAMES[step]}"


def _name(words: Sequence[str], overrides: Sequence[str]) -> str | None:
    if len(words) > 1:
        raise UserError(
            f"{' and '.join(words)} are given, but a command works on one campaign: give one name; "
            "a setting is KEY=VALUE, without blanks around ="
        )
    composed = next((each for each in overrides if each.startswith("campaign=")), None)
    if words and composed:
        raise UserError(f"{words[0]} is a campaign that was run, and {composed} composes one: leave one of them out")
    return words[0] if words else None
