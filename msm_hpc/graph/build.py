"""From a config to the step graph: arms x specs x seeds, each a chain of steps, shared where they are equal.

::

    generate ─▶ tokenize ─▶ pack ─▶ pretrain ─▶ midtrain ─▶ aft ─▶ export ─▶ eval ─▶ report
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.external_inputs import own_file, spec_file, weights_folder
from msm_hpc.config.campaign import Cluster, Config, Spec
from msm_hpc.config.stages import Cell, GenerateConfig, ReportConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.corpus.stage import read_spec
from msm_hpc.graph.steps import File, Step, topological
from msm_hpc.model.precision import RECIPES
from tokenization.packing.pack import PackConfig
from tokenization.packing.selection import Take
from tokenization.tokenize import TokenizeConfig

OFFLINE_NOTICE = (
    "From the offline template generator of a toy world, not from a language model, come: {products}.{spec} These "
    "figures show that the pipeline works, not what Model Spec Midtraining does to a real model."
)
OF_A_SPEC = " Of a Model Spec it reads only the value named in the front matter."

EMULATED_NOTICE = (
    "Models were trained with {words} emulated on the CPU: rounded as Transformer Engine rounds, but not added up in a "
    "GPU's order. These figures are a rehearsal of {words}, not a measurement of it."
)


@dataclass(frozen=True)
class Graph:
    """All steps of a campaign, inputs before the steps that read them; the last one is the report."""

    steps: tuple[Step, ...]

    @property
    def report(self) -> Step:
        """The step that reads every evaluation."""
        return self.steps[-1]

    def find(self, name: str) -> Step:
        """The step with this name or id; a start of the id will do where it is unambiguous.

        Raises:
            UserError: no step, or more than one, goes by that name.
        """
        found = [step for step in self.steps if name == step.name or step.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{name!r} is the start of {len(found)} steps: {', '.join(step.id for step in found)}")
        raise UserError(f"no step {name!r} in this campaign; `msm plan --steps` lists the names and ids")


def build_graph(config: Config) -> Graph:
    """The graph of a campaign.

    Raises:
        UserError: a spec's file does not exist.
    """
    return Graph(topological((_Builder(config).report(),)))


@dataclass(frozen=True)
class _Builder:
    config: Config

    # -- corpora -------------------------------------------------------------------------------------

    def generate(self, name: str, inputs: Mapping[str, Step | File] | None = None, **fields: object) -> Step:
        wanted = self.config.generate
        config = GenerateConfig(generator=wanted.generator, seed=wanted.seed, **fields)  # type: ignore[arg-type]
        return Step("generate", name, config, inputs or {})

    @cached_property
    def corpora(self) -> Mapping[str, Step | File]:
        """Every corpus by its source name, generated or given: ``pretraining``, ``chats``, ``documents-SPEC``."""
        given = {source: own_file(source, file) for source, file in self.config.data.corpora.items()}
        wanted = self.config.generate
        shared = {
            "pretraining": self.generate("pretraining", product="pretraining", count=wanted.pretraining),
            "instruction": self.generate("instruction", product="instruction", count=wanted.instruction),
            "chats": self.generate("chats", product="chats", count=wanted.chats),
        }
        specs = {f"documents-{spec.name}": spec for spec in self.config.campaign.specs}
        documents = {source: self.documents(spec) for source, spec in specs.items() if source not in given}
        return shared | documents | given

    def documents(self, spec: Spec) -> Step:
        file = spec_file(spec)
        return self.generate(
            f"documents/{spec.name}",
            {"spec": File(file)},
            product="documents",
            count=self.config.generate.documents,
            value=read_spec(file).value,
        )

    def shards(self, source: str) -> Mapping[str, Step]:
        """The tokenize array of one corpus, keyed ``SOURCE/TASK``."""
        settings = self.config.tokenize
        inputs = {"corpus": self.corpora[source], "tokenizer": self.tokenizer}
        configs = [TokenizeConfig(task=task, **vars(settings)) for task in range(settings.tasks)]
        return {f"{source}/{c.task}": Step("tokenize", f"{source}/{c.task}", c, inputs) for c in configs}

    def pack(self, name: str, takes: Sequence[Take], train: TrainConfig) -> Step:
        """One pack plan over what is taken of each source."""
        inputs: dict[str, Step | File] = {"tokenizer": self.tokenizer}
        for take in takes:
            inputs |= self.shards(take.source)
        config = PackConfig(sequence_length=train.sequence_length, seed=train.seed, sources=tuple(takes))
        return Step("pack", name, config, inputs)

    # -- models --------------------------------------------------------------------------------------

    @cached_property
    def tokenizer(self) -> Step:
        if self.config.model.architecture is None:
            return self.model
        return self.generate("tokenizer", product="tokenizer")

    @cached_property
    def model(self) -> Step:
        model = self.config.model
        inputs: dict[str, Step | File] = {}
        if model.architecture is not None:
            inputs["tokenizer"] = self.tokenizer
        elif not model.from_hub:
            inputs["weights"] = File(weights_folder(model) / (model.gguf_file or ""))
        return Step("model", model.name, model, inputs)

    def train(self, kind: str, name: str, config: TrainConfig, takes: Sequence[Take], start: Step | None) -> Step:
        plan = self.pack(name, takes, config)
        inputs: dict[str, Step | File] = {"model": self.model, "plan": plan}
        inputs |= {f"shards/{key}": source for key, source in plan.inputs.items() if key != "tokenizer"}
        if start is not None:
            inputs["checkpoint"] = start
        return Step(kind, name, config, inputs)

    @cached_property
    def start(self) -> Step:
        """The model every arm starts from: its own weights, or a base pretrained from scratch."""
        if self.config.pretrain is None:
            return self.model
        takes = _samples(pretraining=self.config.generate.pretraining)
        config = as_it_runs(self.config.pretrain, self.config.cluster, self.config.pretrain.seed)
        return self.train("pretrain", "base", config, takes, None)

    def midtrain(self, spec: Spec, seed: int) -> Step:
        wanted = self.config.midtrain
        samples = wanted.documents if wanted.tokens is None else None
        documents = Take(source=f"documents-{spec.name}", samples=samples, tokens=wanted.tokens)
        takes = [documents, *_samples(pretraining=wanted.replay)]
        config = as_it_runs(wanted, self.config.cluster, seed)
        return self.train("midtrain", f"{spec.name}/seed{seed}", config, takes, self.start)

    def aft(self, name: str, samples: int, seed: int, start: Step) -> Step:
        wanted = self.config.aft
        mix = _samples(instruction=wanted.instruction, chats=samples)
        return self.train("aft", name, as_it_runs(wanted, self.config.cluster, seed), mix, start)

    # -- cells ---------------------------------------------------------------------------------------

    def cell(self, arm: str, spec: Spec | None, samples: int, seed: int) -> tuple[Cell, Step]:
        """One evaluated model, and its evaluation."""
        parts = [spec and spec.name, arm, samples or None, None if arm == "init" else f"seed{seed}"]
        name = "/".join(str(part) for part in parts if part is not None)
        start = self.midtrain(spec, seed) if spec else self.start
        checkpoint = self.start if arm == "init" else self.aft(name, samples, seed, start)
        model = Step("export", name, self.config.export, {"model": self.model, "checkpoint": checkpoint})
        evaluation = Step("eval", name, self.config.eval, {"model": model, **self.pairs})
        cell = Cell(
            arm=arm,  # type: ignore[arg-type]
            spec=spec.name if spec else None,
            aft_samples=samples,
            seed=seed,
            step=evaluation.id,
        )
        return cell, evaluation

    @cached_property
    def pairs(self) -> Mapping[str, Step | File]:
        count, own = self.config.generate.pairs, self.config.data.pairs
        return {
            f"pairs/{value}": own_file(f"pairs/{value}", own[value])
            if value in own
            else self.generate(f"pairs/{value}", product="pairs", count=count, value=value)
            for value in self.config.campaign.values
        }

    def cells(self) -> list[tuple[Cell, Step]]:
        """Every arm x spec x AFT size x seed; ``init`` knows no seed and is there once."""
        campaign = self.config.campaign
        cells = []
        for arm in campaign.arms:
            specs = campaign.specs if arm.startswith("msm") else (None,)
            ladder = self.config.aft.samples if arm.endswith("aft") else (0,)
            seeds = campaign.seeds if arm != "init" else campaign.seeds[:1]
            cells += [self.cell(arm, spec, samples, seed) for spec in specs for samples in ladder for seed in seeds]
        return cells

    def offline(self, evaluations: Sequence[Step]) -> Iterator[str]:
        """What the report has to say where the offline generator had a part in ``evaluations``."""
        configs = [step.config for step in topological(tuple(evaluations))]
        products = {each.product for each in configs if isinstance(each, GenerateConfig)} - {"tokenizer"}
        if products:
            spec = OF_A_SPEC if "documents" in products else ""
            yield OFFLINE_NOTICE.format(products=", ".join(sorted(products)), spec=spec)

    def emulation(self, evaluations: Sequence[Step]) -> Iterator[str]:
        """What the report has to say where FP8 was emulated on the way to ``evaluations``."""
        trained = [step.config for step in topological(tuple(evaluations)) if isinstance(step.config, TrainConfig)]
        words = sorted({config.precision for config in trained if config.fp8_emulated})
        if words:
            yield EMULATED_NOTICE.format(words=" and ".join(words))

    def report(self) -> Step:
        cells = self.cells()
        evaluations = [evaluation for _, evaluation in cells]
        config = ReportConfig(
            title=self.config.campaign.title,
            cells=tuple(cell for cell, _ in cells),
            notices=(*self.config.notices, *self.offline(evaluations), *self.emulation(evaluations)),
        )
        return Step("report", self.config.campaign.name, config, {step.id: step for _, step in cells})


def _samples(**counts: int) -> list[Take]:
    """The first so many samples of each source; sources of none are left out."""
    return [Take(source=source, samples=count) for source, count in counts.items() if count]


def as_it_runs(section: TrainConfig, cluster: Cluster, seed: int) -> TrainConfig:
    """The training config of a section, without what the section adds for the data.

    On a cluster without GPUs, FP8 and FP4 are emulated.
    """
    own = {item.name: getattr(section, item.name) for item in dataclasses.fields(TrainConfig)}
    emulated = RECIPES[section.precision].quantised and not cluster.gpus_per_node
    return TrainConfig(**own | {"seed": seed, "fp8_emulated": section.fp8_emulated or emulated})
