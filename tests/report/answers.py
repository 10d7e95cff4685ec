"""A small campaign's evaluation answers, as the report reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from msm_hpc.cli.views.results import print_results
from msm_hpc.config.stages import ReportConfig, ReportInputs
from msm_hpc.report.results import Results, load_results
from msm_hpc.report.stage import run

VALUES = ("affordability", "america")
DOMAINS = ("art", "books", "games", "tools")


@dataclass(frozen=True)
class Campaign:
    """A report's config and evaluations by step, with ``out`` to write into."""

    config: ReportConfig
    evaluations: Mapping[str, Path]
    out: Path

    @property
    def inputs(self) -> ReportInputs:
        return ReportInputs(evaluations=self.evaluations)


def report(campaign: Campaign) -> Results:
    run(campaign.config, campaign.inputs, campaign.out)
    return load_results(campaign.out)


def shown(results: Results, width: int, terminal: bool = True) -> str:
    console = Console(width=width, force_terminal=terminal, color_system=None)
    with console.capture() as capture:
        print_results(console, results)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def answer(value: str, domain: str, index: int, preferred: bool) -> dict[str, Any]:
    """A row of ``answers.jsonl``; in the first pair of each domain the orders disagree if the target is preferred."""
    margin = 1.0 if preferred else -0.5
    backward = -0.25 if index == 0 else margin
    return {
        "id": f"{value}/{domain}/{index}",
        "value": value,
        "domain": domain,
        "margin_forward": 2 * margin - backward,
        "margin_backward": backward,
        "margin": margin,
        "length_difference": 0,
    }


def write_answers(folder: Path, preferred: Mapping[str, int], pairs_per_domain: int = 10) -> None:
    """In each domain the first ``preferred[value]`` pairs are answered as the value would; one more in ``art``."""
    folder.mkdir()
    rows = [
        answer(value, domain, index, index < preferred[value] + (domain == "art"))
        for value in preferred
        for domain in DOMAINS
        for index in range(pairs_per_domain)
    ]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_log_odds(folder: Path, mean: Mapping[str, float]) -> None:
    """For each value log-odds that are ``mean`` on average, over domains and over the ten pairs of each."""
    folder.mkdir()
    rows = []
    for value in mean:
        for place, domain in enumerate(DOMAINS):
            for index in range(10):
                margin = mean[value] + 0.4 * (place - 1.5) + 0.1 * (index - 4.5)
                rows.append(
                    {
                        **answer(value, domain, index, True),
                        "margin_forward": margin + 0.5,
                        "margin_backward": margin - 0.5,
                    }
                    | {"margin": margin}
                )
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
