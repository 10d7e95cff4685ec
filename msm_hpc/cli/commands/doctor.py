"""``msm doctor``."""

from __future__ import annotations

from rich.markup import escape

from msm_hpc.cli.doctor import examine
from msm_hpc.cli.terminal import terminal

COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


def doctor() -> int:
    """Check what this machine can and cannot do, and say the fix."""
    console, findings = terminal(), examine()
    for finding in findings:
        console.print(f"[{COLOURS[finding.level]}]{finding.level:>4}[/] {escape(finding.what)}", highlight=False)
        if finding.fix:
            console.print(f"     {finding.fix}", markup=False, highlight=False, soft_wrap=True)
    return int(any(finding.level == "bad" for finding in findings))
