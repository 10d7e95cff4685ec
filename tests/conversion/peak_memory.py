"""Run in a process of its own: convert a large model both ways, and print the peak resident memory of each in bytes.

Arguments: ``model`` or ``export``, the folder to read (a Hugging Face model or a model stage's output), one to write.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from msm_hpc.config.stages import ExportConfig, ExportInputs, ModelConfig, ModelInputs
from msm_hpc.conversion import stage


def main(direction: str, read: Path, out: Path) -> None:
    out.mkdir()
    if direction == "model":
        stage.run_model(ModelConfig(name="large", folder=read), ModelInputs(weights=read), out)
    else:
        stage.run_export(ExportConfig(dtype="bfloat16"), ExportInputs(model=read, checkpoint=read), out)
    # Not getrusage: its maximum begins with that of the process that started this one.
    [peak] = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    print(int(peak) * 1024)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
