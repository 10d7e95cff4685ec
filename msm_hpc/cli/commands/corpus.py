"""The commands on corpora: ``lint`` of specs, ``preview`` of what a language model is to write from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from msm_hpc.base.errors import UserError
from msm_hpc.base.text import say
from msm_hpc.cli.arguments import Arguments, ConfigDir, sort_arguments
from msm_hpc.cli.terminal import terminal
from msm_hpc.cli.views.preview import show
from msm_hpc.config.compose import OWN_FOLDER, find_file
from msm_hpc.corpus import lint as checks
from msm_hpc.corpus.spec import read_spec


def lint(
    specs: Annotated[
        list[str], typer.Argument(metavar="SPEC...", help="Markdown files, or names of specs in configs/.")
    ],
    config_dir: ConfigDir = None,
) -> int:
    """Look Model Specs over: ids, sections, lengths, and what they are not to contain."""
    if config_dir is not None:
        os.environ[OWN_FOLDER] = str(config_dir)
    read = [read_spec(_file(spec)) for spec in specs]
    findings = [*checks.lint(read)]
    console = terminal()
    say(console, *map(str, findings))
    sections = sum(len(spec.sections) for spec in read)
    words = sum(spec.words for spec in read)
    say(console, f"{len(findings)} finding(s) in {sections} sections, {words:,} words")
    return int(bool(findings))


def preview(arguments: Arguments = None, config_dir: ConfigDir = None) -> int:
    """Show what a language model will be asked for, how many tokens, and what they cost; ask nothing."""
    session = sort_arguments(arguments).session(config_dir)
    outlines = [step for step in session.graph.steps if step.kind == "outline"]
    if not outlines:
        raise UserError(
            "no corpus of this campaign is written by a language model: set generate.generator=endpoint, and see "
            "docs/corpus.md"
        )
    totals = [show(session, step) for step in outlines]
    if len(totals) > 1:
        session.say(f"In all {sum(totals):,.2f} by the prices of generate.endpoint.")
    return 0


def _file(spec: str) -> Path:
    """The file that is meant: a path, or a name as in ``campaign.specs``."""
    return Path(spec) if spec.endswith(".md") else find_file(f"spec/{spec}.md")
