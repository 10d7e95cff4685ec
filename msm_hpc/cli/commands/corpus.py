"""The commands on corpora: ``lint`` of specs, ``preview`` of what a model is to write from them, ``report`` on it."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_text
from msm_hpc.base.text import say
from msm_hpc.cli.arguments import Arguments, ConfigDir, sort_arguments
from msm_hpc.cli.terminal import terminal
from msm_hpc.cli.views.preview import show
from msm_hpc.config.compose import OWN_FOLDER, find_file
from msm_hpc.config.generation import Persona
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
    if len(totals) > 1 and any(totals):
        session.say(f"In all {sum(totals):,.2f} by the prices of generate.endpoint.")
    return 0


def report(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE_OR_STEP... [root=FOLDER]",
            help="JSON-lines files, folders of steps, or their names or ids: write/documents-america.",
        ),
    ],
    items: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Items of an evaluation, to look for leaks of.")
    ] = None,
    spec: Annotated[list[str] | None, typer.Option(metavar="SPEC", help="A spec, where no step names it.")] = None,
    assistant: Annotated[str | None, typer.Option(help="The assistant's name, where no step has it.")] = None,
    provider: Annotated[str, typer.Option(help="The name of who makes it.")] = "",
    limit: Annotated[list[str] | None, typer.Option(metavar="GATE=SHARE", help="Another limit of a gate.")] = None,
    embeddings: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Static embeddings, to look for leaks by meaning, too.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the samples to read.")] = 0,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("corpus.html"),
) -> int:
    """Look a corpus over: gates with limits, a page with the worst of each, and samples to read."""
    from msm_hpc.cli.views import quality  # here, since other commands do without what they import
    from msm_hpc.corpus.quality.embeddings import StaticEmbeddings
    from msm_hpc.corpus.quality.gate import refuse
    from msm_hpc.corpus.quality.inspection import inspect
    from msm_hpc.corpus.quality.leaks import read_items
    from msm_hpc.corpus.quality.page import render_page
    from msm_hpc.corpus.quality.rows import Rows, Subject

    limits = quality.limits(limit or ())
    given = quality.given(sources)
    specs = map(read_spec, (*given.specs, *map(_file, spec or ())))
    persona = Persona(assistant=assistant, provider=provider) if assistant else given.persona
    subject = Subject({each.name: each for each in specs}, persona)
    evaluations = read_items({file.stem: file for file in items or ()})
    static = StaticEmbeddings.open(embeddings) if embeddings else None
    found = inspect(Rows(given.files), subject, evaluations, limits, static, seed)
    write_text(out, render_page(found))
    console = terminal()
    quality.table(found.gates).print(console)
    say(console, *(f"not asked: {each}" for each in found.skipped), f"more in {out}")
    refuse(found.gates, "--limit {gate}=SHARE")
    return 0


def convert_released(
    items: Annotated[Path, typer.Argument(metavar="FILE", help="A set of items that the authors released.")],
    value: Annotated[str, typer.Option(help="The value that they are about.")],
    out: Annotated[Path, typer.Option(help="The pairs.")],
) -> int:
    """Write the preference items of the paper's authors as pairs that a campaign reads."""
    from msm_hpc.base.files import write_jsonl
    from msm_hpc.evals.released import released_pairs

    pairs = released_pairs(items, value)
    write_jsonl(out, map(asdict, pairs))
    say(terminal(), f"{len(pairs)} pairs on {value} in {out}: sources.pairs.files.{value}={out}")
    return 0


def _file(spec: str) -> Path:
    """The file that is meant: a path, or a name as in ``campaign.specs``."""
    return Path(spec) if spec.endswith(".md") else find_file(f"spec/{spec}.md")
