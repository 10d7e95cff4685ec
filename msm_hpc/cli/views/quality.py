"""A corpus from its files, or the folders of its steps: what its quality report reads, and what is printed of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from msm_hpc.base.errors import UserError
from msm_hpc.cli.views.table import Listing
from msm_hpc.config.compose import root_of
from msm_hpc.config.generation import Persona
from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality.gate import Gate
from msm_hpc.corpus.rows import DATA
from msm_hpc.graph.kinds import KINDS
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.store import Store


@dataclass(frozen=True)
class Given:
    """Files of rows, and what the records of their steps say: their specs' files, and the assistant's names."""

    files: tuple[Path, ...]
    specs: tuple[Path, ...]
    persona: Persona | None


def given(words: Sequence[str]) -> Given:
    """What is meant by files, by folders of steps or of their results, and by names and ids of steps in a root folder.

    Raises:
        UserError: there is no such file or step, or no corpus in a folder.
    """
    store = Store(root_of([word for word in words if word.startswith("root=")]))
    files, specs, personas = [], dict[Path, None](), []
    for source in (_place(word, store) for word in words if not word.startswith("root=")):
        files.append(_file(source))
        record = StepFolder(source).record or StepFolder(source.parent).record
        if record is not None:
            if spec := record.inputs.get("spec"):
                specs[Path(str(spec))] = None
            if persona := record.config.get("persona"):
                personas.append(Persona(**persona))
    return Given(tuple(files), tuple(specs), personas[0] if personas else None)


def _place(word: str, store: Store) -> Path:
    """The path that a word is, or the folder of the step that it names."""
    kind = word.partition("/")[0]
    if Path(word).exists() or kind not in KINDS:
        return Path(word)
    found = [each.id for each in store.records(kind) if word == each.name or each.id.startswith(word)]
    if len(found) == 1:
        return store.folder(found[0]).path
    if not found:
        raise UserError(f"{word}: no such file, and no such step below root={store.root}; correct it, or give root=")
    raise UserError(f"{word} names {len(found)} steps below root={store.root}: {', '.join(found)}; give one of these")


def _file(source: Path) -> Path:
    candidates = [source, source / DATA, source / "out" / DATA]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise UserError(f"{source}: neither a file of rows nor a step's folder with {DATA}; correct the path")
    if found.suffix != ".jsonl":
        raise UserError(f"{found}: rows are read from .jsonl only; write one JSON object a line, uncompressed")
    return found


def limits(settings: Sequence[str]) -> Limits:
    """Limits from words such as ``dates=0.1``.

    Raises:
        UserError: there is no such gate, or the limit is no share.
    """
    pairs: Mapping[str, Any] = dict(each.partition("=")[::2] for each in settings)
    try:
        return TypeAdapter(Limits).validate_python(dict(pairs))
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        if wrong["type"] == "unexpected_keyword_argument":
            raise UserError(f"--limit {name}: no such gate; there are {', '.join(vars(Limits()))}") from error
        raise UserError(f"--limit {name}={pairs[name]}: write a share from 0 to 1") from error


def table(gates: Sequence[Gate]) -> Listing:
    """The gates, a line each."""
    numbers = ("share", "limit", "found", "of")
    listing = Listing(("gate", "", *numbers), right=frozenset(numbers))
    for each in gates:
        verdict = ("passed" if each.passed else "not passed") if each.of else "nothing to judge"
        listing.add(each.about.name, verdict, *_numbers(each))
    return listing


def _numbers(gate: Gate) -> Iterator[str]:
    yield from (f"{gate.share:.2%}", f"{gate.limit:.2%}", f"{gate.found:,}", f"{gate.of:,}")
