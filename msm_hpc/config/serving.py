"""How a trained model is asked: by which server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msm_hpc.config.schema import Strict


@dataclass(frozen=True, kw_only=True)
class Serving(Strict):
    """The server that answers for a trained model."""

    server: Literal["transformers", "vllm", "command"] = "transformers"
