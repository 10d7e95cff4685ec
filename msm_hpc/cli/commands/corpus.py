"""The commands on corpora: ``lint`` of the specs that they are made from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from msm_hpc.base.text import say
from msm_hpc.cli.arguments import ConfigDir
from msm_hpc.cli.terminal import terminal
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


def _file(spec: str) -> Path:
    """The file that is meant: a path, or a name as in ``campaign.specs``."""
    return Path(spec) if spec.endswith(".md") else find_file(f"spec/{spec}.md")
