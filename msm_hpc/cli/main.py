"""The ``msm`` command: its arguments, and what is told of an error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from msm_hpc import __version__
from msm_hpc.base.errors import StoppedBySignalError, UserError
from msm_hpc.base.files import CANNOT_WRITE
from msm_hpc.campaign.rehearsal import MOST_RANKS
from msm_hpc.campaign.session import Session, terminal
from msm_hpc.cli import commands
from tokenization.errors import BadInput

OVERRIDES = """
overrides (Hydra's own; see the folder configs/ for the choices):
  campaign=demo cluster=slurm model=tiny precision=fp32      one file of each group
  aft.samples=[1250,2500,5000] midtrain.learning_rate=2e-4   any field
  root=/shared/runs                                          where everything lies
"""


Command = Callable[[Session, argparse.Namespace], int]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="msm",
        description="Model Spec Midtraining campaigns: from a spec to a table of results, on this machine or on Slurm.",
        epilog="start with: msm run campaign=demo cluster=local",
    )
    parser.add_argument("--version", action="version", version=f"msm-hpc {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str, step: str | None = None) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
            name, help=text, description=text, epilog=OVERRIDES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if step:
            optional = "" if step == "one" else "; without it, every step that is not done"
            sub.add_argument("step", metavar="STEP", nargs="?" if optional else None, help=f"name or id{optional}")
        sub.add_argument("overrides", nargs="*", metavar="key=value", help="which campaign; see below")
        sub.set_defaults(command=command)
        return sub

    add("run", commands.run, "run a campaign: what is done is kept, what failed is tried again")
    planning = add("plan", commands.plan, "show what trainings need, and for Slurm the job arrays; submit nothing")
    planning.add_argument("--steps", action="store_true", help="list every step, with its name and id")
    planning.add_argument("--scripts", action="store_true", help="print the sbatch script of every array as well")
    rehearsal = add(
        "rehearse", commands.rehearse, "run the whole campaign here, on a shrunken model with its true layouts"
    )
    rehearsal.add_argument(
        "--max-ranks", type=int, default=MOST_RANKS, metavar="N", help=f"processes of one training ({MOST_RANKS})"
    )
    add(
        "probe",
        commands.probe,
        "measure the best few layouts of a training (STEP: pretrain, midtrain or aft)",
        step="one",
    )
    add("status", commands.status, "show where each stage stands, what failed and why")
    add("logs", commands.logs, "print the log of a step's last attempt", step="one")
    add("why", commands.why_step, "say which field makes a step run again", step="optional")
    add("report", commands.report, "print the results so far and write the HTML report")
    add("stage", commands.stage, "make one step in this shell", step="one")
    add("doctor", commands.doctor, "check what this machine can do")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code: 0, 1 where a step failed, 2 for what the user can mend."""
    arguments = _parser().parse_args(argv)
    overrides = list(arguments.overrides)
    command: Command = arguments.command
    try:
        if "=" in (getattr(arguments, "step", None) or ""):
            if command is not commands.why_step:
                raise UserError(f"which step? name it before {arguments.step}; `msm plan --steps` lists the names")
            overrides.insert(0, arguments.step)
            arguments.step = None
        return command(Session(tuple(overrides), terminal()), arguments)
    except (UserError, BadInput) as error:
        print(f"msm: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        what, place = (f": {error.filename}", "there") if error.filename else ("", "below root=")
        print(
            f"msm: {error.strerror}{what}; free space or mend the permissions {place}, and run the same command again: "
            "what is complete is kept",
            file=sys.stderr,
        )
        return 2
    except StoppedBySignalError as error:
        print(f"msm: {error}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\nmsm: interrupted; the same command goes on, trainings from where they have saved", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
