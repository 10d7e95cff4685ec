"""What the report has to say of how its figures came about: stand-ins for a language model, and for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msm_hpc.config.campaign import Config
from msm_hpc.config.generation import Persona, WriteConfig
from msm_hpc.config.sources import Corpus
from msm_hpc.config.stages import ONE_FOR_EACH, GenerateConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.steps import File, Origin, Step

OFFLINE = (
    "From the offline template generator of a toy world, not from a language model, come: {products}.{spec} These "
    "figures show that the pipeline works, not what Model Spec Midtraining does to a real model."
)
OF_A_SPEC = " Of a Model Spec it reads only the value named in the front matter."

BY_HAND = "Chats about who {assistant} is, made by {provider}, are filled from a few dozen texts written by hand."

WRITTEN = "By a language model, {model}, come {products} about {assistant}, made by {provider}."

EMULATED = (
    "Models were trained with {words} emulated on the CPU: rounded as Transformer Engine rounds, but not added up in a "
    "GPU's order. These figures are a rehearsal of {words}, not a measurement of it."
)


TAKEN = "Trained on: {sizes} {unit} of the corpus {source} ({key})."


def taken(config: Config, outside: Callable[[Corpus], Origin]) -> Iterator[str]:
    """A notice for each source of which only a part of the user's own rows is taken."""
    for name in sorted(config.sources_used):
        source, turns = config.sources[name], config.counted(name) == "turns"
        for corpus in config.corpora(name):
            file = outside(corpus)
            if not isinstance(file, File):
                continue
            there = "" if file.rows is None else f"{file.rows:,} "
            if source.tokens is not None:
                key = f"sources.{name}.tokens"
                yield TAKEN.format(sizes=f"{source.tokens:,}", unit="tokens", source=corpus.name, key=key)
            elif source.most_rows is not None and (turns or source.most_rows != file.rows):
                sizes = " or ".join(f"{size:,}" for size in source.ladder or (source.most_rows,))
                key = f"sources.{name}.{'ladder' if source.ladder else 'rows'}"
                unit = f"turns of the assistant in {there}chats" if turns else f"of {there}rows" if there else "rows"
                yield TAKEN.format(sizes=sizes, unit=unit, source=corpus.name, key=key)


def notices(steps: Sequence[Step]) -> Iterator[str]:
    """A notice for each kind of stand-in, and each language model, that had a part in ``steps``."""
    configs = [step.config for step in steps]
    made = [config for config in configs if isinstance(config, GenerateConfig)]
    products = {config.product for config in made if config.generator == "offline_toy"} - {"tokenizer"}
    if products:
        spec = OF_A_SPEC if any(ONE_FOR_EACH.get(product) == "spec" for product in products) else ""
        yield OFFLINE.format(products=", ".join(sorted(products)), spec=spec)
    for persona in dict.fromkeys(config.persona for config in made if config.persona):
        yield BY_HAND.format(**vars(persona))
    writers: dict[tuple[str, Persona], set[str]] = {}
    for config in configs:
        if isinstance(config, WriteConfig):
            writers.setdefault((config.endpoint.model, config.persona), set()).add(config.product)
    for (model, persona), written in writers.items():
        yield WRITTEN.format(products=", ".join(sorted(written)), model=model, **vars(persona))
    words = sorted({config.precision for config in configs if isinstance(config, TrainConfig) and config.fp8_emulated})
    if words:
        yield EMULATED.format(words=" and ".join(words))
