"""What benchmarks/verification.py runs on its own: ``load STEP`` or ``verify STEP``, which compares hashes first."""

import sys
from pathlib import Path

from transformers import AutoModelForCausalLM

from msm_hpc.store.folder import StepFolder

what, folder = sys.argv[1], StepFolder(Path(sys.argv[2]))
if what == "verify":
    assert folder.verify("the benchmark") is None
model = AutoModelForCausalLM.from_pretrained(folder.out)
for parameter in model.parameters():  # they are mapped: this reads them
    parameter.data.sum()
