"""``msm doctor``."""

from __future__ import annotations

from msm_hpc.base.text import say
from msm_hpc.cli.doctor import examine
from msm_hpc.cli.terminal import terminal

COLOURS = {"ok": "", "note": "yellow", "bad": "red"}


def doctor() -> int:
    """Check what this machine can and cannot do, and say the fix."""
    console, findings = terminal(), examine()
    for finding in findings:
        say(console, f"{finding.level:>4} {finding.what}", style=COLOURS[finding.level])
        if finding.fix:
            say(console, f"     {finding.fix}")
    return int(any(finding.level == "bad" for finding in findings))
