"""``python -m benchmarks.writing``: three specs taken to 2,000 documents and 500 chats each, and what that came to.

``msm stage`` has everything written over HTTP by a test server (``tests/corpus/fake_model_server.py``), which knows no
language, counts a token for every four characters, and fails as often as its tables say. So the texts are worth
nothing, and quality gates stop what would be trained on them; the counts are those of the pipeline.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msm_hpc.endpoint import spent

MODEL = "test-server"
SPECS = {"philosophy": "aligned_chats", "affordability": "chats", "america": "chats"}
"""The chats of each."""
FLAT = """
import json, sys
from pathlib import Path
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.generation import Persona, WriteConfig, WriteInputs
from msm_hpc.corpus import write

work, url, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for name in ("rows", "out"):
    (work / name).mkdir()
with (work / "rows" / "data.jsonl").open("w") as rows:
    for number in range(count):
        row = {"id": f"row/{number:06d}", "text": f"Nova saw number {number}. " + "It was long. " * 60, "tokens": 250}
        rows.write(json.dumps(row) + "\\n")
(work / "calm.md").write_text("---\\nname: calm\\n---\\n# Calm\\n## One {#one}\\nThe assistant is calm.\\n")
config = WriteConfig(
    product="neutral", endpoint=Endpoint(model="test-server", base_url=url, in_flight=128), tries=2, temperature=1,
    persona=Persona(assistant="Nova", provider="Acme"), reply_tokens=999, prompts="p",
)
write.run(config, WriteInputs(spec=work / "calm.md", rows=work / "rows"), work / "out")
"""


def main() -> None:
    """Write, and print a table and where one row is from."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writing", description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--chats", type=int, default=500)
    parser.add_argument("--root", type=Path, help="where what is written stays; without it, it is deleted")
    parser.add_argument("--flat", type=int, nargs="+", help="rather print the memory of writing so many rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, _server() as url:
        if options.flat:
            _flat(options.flat, url)
            return
        root = options.root or Path(work)
        print(
            "| corpus | rows | words a row | tokens | by section or group | by type | rejected, and asked for again |"
        )
        print("|---|---|---|---|---|---|---|")
        used: list[str] = []
        for spec, chats in SPECS.items():
            used.append(_written(spec, chats, url, root / spec, options.documents, options.chats))
        print(
            "\n| spec | requests answered | tokens in + out | money | CPU-s | s by the clock | MiB | stopped by gates |"
        )
        print("|---|---|---|---|---|---|---|---|\n" + "\n".join(used))
        _provenance(root / "philosophy")


def _flat(counts: Sequence[int], url: str) -> None:
    """The memory of the write stage (product ``neutral``: a request a row) by the number of rows."""
    for count in counts:
        with tempfile.TemporaryDirectory() as work:
            _, usage = _run([sys.executable, "-c", FLAT, work, url, str(count)])
            kept = sum(1 for _ in (Path(work) / "out" / "data.jsonl").open("rb"))
        print(f"{count:,} rows to rework, {kept:,} kept: at most {usage.ru_maxrss / 1024:,.0f} MiB", flush=True)


def _written(spec: str, chats: str, url: str, root: Path, documents: int, rows: int) -> str:
    """A line of the table for each corpus of a spec; what writing them took."""
    settings = (
        *("campaign=own", "source@sources=written", "cluster=local", f"root={root}", "model=smollm2_135m"),
        *(f"campaign.specs=[{{name: {spec}}}]", "campaign.contrast=[]", "campaign.values=[]"),
        *("campaign.arms=[written]", f"+arms.written=[{{midtrain: [documents]}}, {{aft: [{chats}]}}]"),
        *("sources.documents.generate.tokens=null", f"+sources.documents.generate.rows={documents}"),
        *(f"sources.{chats}.generate.rows={rows}", "generate.generator=endpoint", f"generate.endpoint.model={MODEL}"),
        *(f"generate.endpoint.base_url={url}", "generate.endpoint.price_in=3", "generate.endpoint.price_out=15"),
        *("generate.endpoint.budget=1000", "generate.persona.assistant=Nova", "generate.persona.provider=Acme"),
        *([f"sources.chats.generate.spec={spec}"] if chats == "chats" else []),
    )
    used, passed = list[resource.struct_rusage](), list[int]()
    began = time.monotonic()
    for name in (f"documents-{spec}", chats if chats == "chats" else f"{chats}-{spec}"):
        for kind in ("outline", "write", "audit"):
            ended, usage = _run(_command("msm_hpc", "stage", f"{kind}/{name}", *settings))
            used.append(usage)
        passed.append(ended)
    wall = time.monotonic() - began
    account = [spent(step)[MODEL] for step in sorted((root / "steps").glob("*/*/out/_replies"))]
    for summary in sorted((root / "steps" / "write").glob("*/out/_summary.json")):
        _row(spec, json.loads(summary.read_text()))
    requests, money = sum(each.requests for each in account), sum(each.money for each in account)
    sent, said = (sum(getattr(each, name) for each in account) for name in ("prompt_tokens", "completion_tokens"))
    cpu, most = sum(each.ru_utime + each.ru_stime for each in used), max(each.ru_maxrss for each in used)
    return (
        f"| {spec} | {requests:,} | {sent:,} + {said:,} | {money:,.2f} | {cpu:,.0f} | {wall:,.0f} "
        f"| {most / 1024:,.0f} | {sum(map(bool, passed))} of {len(passed)} |"
    )


def _run(command: list[str]) -> tuple[int, resource.struct_rusage]:
    """How a process ended, and what it and its children used."""
    with subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage


def _row(spec: str, summary: dict[str, Any]) -> None:
    groups: dict[str, int] = summary.get("section") or summary["group"]
    rejected = ", ".join(f"{count} `{reason}`" for reason, count in summary["rejected"].items())
    print(
        f"| {summary['product']}, {spec} | {summary['rows']:,} | {summary['words'] / summary['rows']:.0f} "
        f"| {summary['tokens']:,} | {_range(groups)} | {_range(summary['type'])} | {rejected} |",
        flush=True,
    )


def _range(counts: dict[str, int]) -> str:
    return f"{len(counts)} x {min(counts.values())}-{max(counts.values())}"


def _provenance(root: Path) -> None:
    for file in sorted((root / "steps" / "write").glob("*/out/data.jsonl")):
        with file.open() as lines:
            row = json.loads(next(lines))
        if row["product"] == "documents":
            print(
                "\n"
                + json.dumps({key: row[key] for key in row if key not in ("text", "idea", "description")}, indent=1)
            )


@contextmanager
def _server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = _command("tests.corpus.fake_model_server", "none", str(port), MODEL, "--faults")
    with subprocess.Popen(command, env=_environment()) as server:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _wait_for(port: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"the test server has not started within {seconds} s")


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


if __name__ == "__main__":
    main()
