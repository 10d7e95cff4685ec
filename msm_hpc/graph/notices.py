"""What the report has to say of how its figures came about: stand-ins for a language model, and for a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msm_hpc.config.stages import GenerateConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.steps import Step

OFFLINE = (
    "From the offline template generator of a toy world, not from a language model, come: {products}.{spec} These "
    "figures show that the pipeline works, not what Model Spec Midtraining does to a real model."
)
OF_A_SPEC = " Of a Model Spec it reads only the value named in the front matter."

EMULATED = (
    "Models were trained with {words} emulated on the CPU: rounded as Transformer Engine rounds, but not added up in a "
    "GPU's order. These figures are a rehearsal of {words}, not a measurement of it."
)


def notices(steps: Sequence[Step]) -> Iterator[str]:
    """A notice for each kind of stand-in that had a part in ``steps``."""
    configs = [step.config for step in steps]
    products = {config.product for config in configs if isinstance(config, GenerateConfig)} - {"tokenizer"}
    if products:
        spec = OF_A_SPEC if "documents" in products else ""
        yield OFFLINE.format(products=", ".join(sorted(products)), spec=spec)
    words = sorted({config.precision for config in configs if isinstance(config, TrainConfig) and config.fp8_emulated})
    if words:
        yield EMULATED.format(words=" and ".join(words))
