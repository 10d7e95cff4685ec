"""What a server calls its model: which weights these are, and whose server it is.

::

    msm-3f1c09ab77e2                     by which prompts are keyed: the same in every job
    msm-3f1c09ab77e2-4711_3-9d04c1       under which this server answers, and no other
"""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import cache
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.serving import Serving
from msm_hpc.model.adapter import fingerprint_of

_LENGTH = 12


def check_is_model(folder: Path) -> None:
    """Check that ``folder`` is a Hugging Face model, before anything is read of it.

    Raises:
        UserError: it is not.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a Hugging Face model: it has no config.json; run the export stage first")


def name_of(model: Path, adapter: Path | None = None) -> str:
    """By the content of the model's folder, and of the adapter's."""
    hashes = "".join(_hash(folder) for folder in (model, adapter) if folder)
    return f"msm-{hashlib.sha256(hashes.encode()).hexdigest()[:_LENGTH]}"


def name_here(name: str) -> str:
    """``name`` with the job, or the process, and what no other server's name has."""
    job = os.environ.get("SLURM_JOB_ID", f"pid{os.getpid()}")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return f"{name}-{job}-{secrets.token_hex(3)}"


def endpoint_of(config: Serving, url: str, name: str, here: str, patience_s: float) -> Endpoint:
    """The endpoint of a server that answers at ``url`` for the model ``name`` under the name ``here``."""
    return Endpoint(
        model=name,
        asked_as=here,
        base_url=url,
        limit_field="max_tokens",
        in_flight=config.in_flight,
        timeout_s=config.timeout_s,
        patience_s=patience_s,
    )


@cache
def _hash(folder: Path) -> str:
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder} is no folder with a model; run the export stage first")
    return fingerprint_of(files)
