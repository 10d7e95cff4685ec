"""What the benchmark counts. It waits for every child of its process, so each test gives it a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BURN = "import time\nwhile time.process_time() < 0.5: pass"
DAEMON = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {BURN!r}], start_new_session=True)
"""
MEASURE = """
import os, sys
from pathlib import Path
from benchmarks import measure
usage = measure.run([sys.executable, "-c", sys.argv[1]], dict(os.environ), Path(sys.argv[2]))
print(usage.cpu, usage.peak)
"""


def _measure(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MEASURE, program, str(folder / "log.txt")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_process_that_outlives_its_parent_is_counted(tmp_path: Path) -> None:
    cpu, _ = map(float, _measure(DAEMON, tmp_path).stdout.split())
    assert cpu >= 0.5


def test_memory_is_that_of_the_largest_process(tmp_path: Path) -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', \"b'x' * {200 << 20}\"])"
    _, peak = map(float, _measure(program, tmp_path).stdout.split())
    assert 200 << 20 <= peak < 300 << 20


def test_a_command_that_fails_shows_what_it_printed(tmp_path: Path) -> None:
    result = _measure("raise SystemExit('tokenizer'.upper())", tmp_path)
    assert result.returncode != 0
    assert "TOKENIZER" in result.stderr
