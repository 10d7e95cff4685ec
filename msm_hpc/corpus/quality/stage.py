"""The audit stage: a written corpus is looked over before anything is trained on it."""

from __future__ import annotations

from pathlib import Path

from msm_hpc.base.files import write_json, write_text
from msm_hpc.config.quality import AuditConfig, AuditInputs
from msm_hpc.corpus.quality.embeddings import StaticEmbeddings
from msm_hpc.corpus.quality.gate import refuse
from msm_hpc.corpus.quality.inspection import inspect
from msm_hpc.corpus.quality.leaks import read_items
from msm_hpc.corpus.quality.page import in_json, render_page
from msm_hpc.corpus.quality.rows import Rows, Subject
from msm_hpc.corpus.rows import DATA
from msm_hpc.corpus.spec import read_spec

PAGE, FOUND = "corpus.html", "audit.json"


def run(config: AuditConfig, inputs: AuditInputs, out: Path) -> None:
    """Write what is found in a corpus; both files are there, too, where it is refused.

    Raises:
        UserError: it has more of something than a limit allows, and ``config.on_gates`` is ``stop``.
    """
    spec = read_spec(inputs.spec)
    subject = Subject({spec.name: spec}, config.persona)
    embeddings = StaticEmbeddings.open(inputs.embeddings) if inputs.embeddings else None
    found = inspect(Rows((inputs.corpus / DATA,)), subject, read_items(inputs.items), config.limits, embeddings)
    write_text(out / PAGE, render_page(found))
    write_json(out / FOUND, {"on_gates": config.on_gates, **in_json(found)})
    if config.on_gates == "stop":
        refuse(
            found.gates,
            "quality.limits.{gate}=SHARE",
            f"The worst rows of each: {out / PAGE}; to train on the corpus as it is: quality.on_gates=report",
        )
