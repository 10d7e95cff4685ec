"""The ``msm`` command: its subcommands, and how an error is reported."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from rich.console import Console
from typer.exceptions import TyperException

from msm_hpc import __version__
from msm_hpc.base.errors import StoppedBySignalError, UserError
from msm_hpc.base.files import CANNOT_WRITE
from msm_hpc.base.text import say
from msm_hpc.cli.deferred import Deferred, DeferredGroup
from msm_hpc.cli.terminal import terminal

SETTINGS = ("campaign", "cluster", "model", "root")
"""Keys that are at times taken for options."""


class Commands(DeferredGroup):
    """Commands whose errors are one message, not a traceback; calling one returns the exit code."""

    deferred: ClassVar[Mapping[str, Deferred]] = {
        "run": Deferred("running:run", "Run a campaign: what is done is kept, what failed is retried."),
        "plan": Deferred("planning:plan", "Show what trainings need and the job arrays; submit nothing."),
        "rehearse": Deferred("running:rehearse", "Run all of it here, on a shrunken model with its true layouts."),
        "probe": Deferred("planning:probe", "Measure the best few layouts of a training."),
        "status": Deferred("questions:status", "Show where each stage stands, what failed and why."),
        "cancel": Deferred("cleaning:cancel", "Stop all jobs of a campaign; `msm run` continues it."),
        "logs": Deferred("questions:logs", "Print the log of a step's last attempt, below what ended it."),
        "triage": Deferred("questions:triage", "Say of failed steps which rank failed first, where and why."),
        "why": Deferred("questions:why", "Say which field makes a step run again."),
        "report": Deferred("questions:report", "Print the results so far and write the HTML report."),
        "trace": Deferred("questions:trace", "Show what a result is made of: data, code, jobs."),
        "transcripts": Deferred("transcripts:transcripts", "Write replies and their scores for `inspect view`."),
        "stage": Deferred("running:stage", "Run one step in this shell."),
        "gc": Deferred("cleaning:gc", "Show what no campaign needs any more; with --yes, delete it."),
        "config": Deferred("planning:config", "Print the composed configuration as YAML."),
        "doctor": Deferred("doctor:doctor", "Check what this machine can and cannot do, and say the fix.", False),
    }

    def invoke(self, ctx: Any) -> int:
        """Call the command; what is wrong is a message and an exit code."""
        try:
            return int(super().invoke(ctx) or 0)
        except UserError as error:
            return _say(str(error), 2)
        except OSError as error:
            if error.errno not in CANNOT_WRITE or not _can_print():
                raise
            return _say(_cannot_write(error), 2)
        except StoppedBySignalError as error:
            return _say(str(error), 130)
        except KeyboardInterrupt:
            return _interrupted()


class CorpusCommands(DeferredGroup):
    """The commands of ``msm corpus``."""

    deferred: ClassVar[Mapping[str, Deferred]] = {
        "lint": Deferred(
            "corpus:lint", "Look Model Specs over: ids, sections, lengths, and what they are not to contain.", False
        ),
        "preview": Deferred(
            "corpus:preview",
            "Show what a language model will be asked for, how many tokens, and what they cost; ask nothing.",
        ),
        "report": Deferred(
            "corpus:report",
            "Look a corpus over: gates with limits, a page with the worst of each, and samples to read.",
            False,
        ),
        "convert-released": Deferred(
            "corpus:convert_released",
            "Write the preference items of the paper's authors as pairs that a campaign reads.",
            False,
        ),
    }


app = typer.Typer(
    name="msm",
    cls=Commands,
    help="Model Spec Midtraining campaigns: from a spec to a table of results, on this machine or on Slurm.",
    epilog="Start with: msm run campaign=demo cluster=local",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.add_typer(
    typer.Typer(
        cls=CorpusCommands,
        help="Model Specs, and what a language model writes from them.",
        no_args_is_help=True,
        rich_markup_mode=None,
    ),
    name="corpus",
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"msm-hpc {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        from msm_hpc.cli.arguments import what_there_is  # here, since the help of `msm --help` does without
        from msm_hpc.config.compose import root_of

        typer.echo(context.get_help())
        say(terminal(), "", "There are:", *what_there_is(root_of(())))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    It is 0, 1 where a step failed, 2 for what the user can fix, 130 if stopped, by SIGTERM as by Ctrl-C.
    """
    command = typer.main.get_command(app)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = int(command.main(argv, prog_name="msm", standalone_mode=False) or 0)
        sys.stdout.flush()  # here, where a reader that has gone away is noticed
        return code
    except TyperException as error:
        option = getattr(error, "option_name", "").lstrip("-")
        hint = f"; a setting has no dashes: {option}=VALUE" if option in SETTINGS else ""
        return _say(f"{error.format_message()}{hint}", 2)
    except BrokenPipeError:
        return _leave_output()
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        _leave_output()
        return _say(f"{error.strerror}: what it prints cannot be written where it goes; send it elsewhere", 2)
    except typer.Abort:
        return _interrupted()
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted() -> int:
    print(file=sys.stderr)
    return _say("interrupted; the same command resumes, trainings from where they have saved", 130)


def _say(message: str, code: int) -> int:
    say(Console(stderr=True), f"msm: {message}")
    return code


def _cannot_write(error: OSError) -> str:
    if error.errno == errno.EACCES and error.filename:
        return _denied(Path(error.filename))
    what, place = (f": {error.filename}", "there") if error.filename else ("", "below root=")
    return (
        f"{error.strerror}{what}; free space or fix the permissions {place}, and run the same command again: "
        "finished steps are kept, and trainings resume from where they have saved"
    )


def _denied(file: Path) -> str:
    """The error for a user who lacks rights: it names who can give them."""
    seen = next(path for path in (file.absolute(), *file.absolute().parents) if os.path.exists(path))
    try:
        owner = seen.owner()
    except KeyError:  # a user that this machine does not know
        owner = f"user {seen.stat().st_uid}"
    return (
        f"Permission denied: {file}: let {owner}, who owns {seen}, give you the rights there, and run the same command "
        "again; a root folder that several share needs a common group, setgid, and umask 002 or 007 of all of them"
    )


def _can_print() -> bool:
    """Whether it was not printing that failed: what was printed is still to be written then, and fails again."""
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _leave_output() -> int:
    """Let nothing more be written to a full disk, or to a pipe whose reader has gone, as ``head`` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    sys.exit(main())
