"""The tokenise stage in a campaign: ``tokenization.tokenize.run``, which reports its progress as other stages do."""

from __future__ import annotations

from pathlib import Path

from msm_hpc.base.progress import ProgressFile
from tokenization import tokenize
from tokenization.tokenize import TokenizeConfig, TokenizeInputs


def run(config: TokenizeConfig, inputs: TokenizeInputs, out: Path) -> None:
    """Tokenise one share of a corpus; see :func:`tokenization.tokenize.run`."""
    files: dict[int, ProgressFile] = {}

    def report(done: int, total: int) -> None:
        files.setdefault(total, ProgressFile(out, total, "bytes")).update(done)

    tokenize.run(config, inputs, out, report)
