"""Pairs of options for a model to choose between, read from ``pairs.jsonl``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from string import Formatter

from msm_hpc.base.errors import UserError
from msm_hpc.base.rows import read_rows

FILE = "pairs.jsonl"
TEXTS_PER_PAIR = 4
"""Both orders, each with either answer."""


@dataclass(frozen=True)
class Pair:
    """One question: ``target`` is the option that expresses ``value``, ``other`` the one that does not.

    ``question`` names the options through the slots ``{first}`` and ``{second}``.
    """

    id: str
    value: str
    domain: str
    question: str
    target: str
    other: str


def read_pairs(file_or_folder: Path) -> list[Pair]:
    """The pairs of a file, or of ``pairs.jsonl`` in a folder, in file order.

    Raises:
        UserError: the file is missing, of another format, empty or malformed, or an id occurs twice; names file, line
            and field.
    """
    path = file_or_folder / FILE if file_or_folder.is_dir() else file_or_folder
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a .jsonl file of pairs, or a folder with {FILE}")
    if path.suffix != ".jsonl":
        raise UserError(f"{path}: pairs are read from .jsonl only; write one JSON object a line, uncompressed")
    pairs: dict[str, Pair] = {}
    for number, pair in enumerate(read_rows(path, Pair), start=1):
        _check(pair, f"{path}:{number}")
        if pair.id in pairs:
            raise UserError(
                f"{path}:{number}: id: {pair.id!r} is already the id of an earlier pair; ids must be unique"
            )
        pairs[pair.id] = pair
    if not pairs:
        raise UserError(f"{path} has no pairs: there is nothing to evaluate; add some")
    return list(pairs.values())


def check_slots(template: str, slots: set[str], where: str) -> None:
    """Check that a ``template`` for ``str.format`` uses exactly ``slots``.

    Raises:
        UserError: it does not; names ``where`` it is and the slots that are needed.
    """
    try:
        found = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        raise UserError(f"{where}: {template!r}: {error}; write a literal brace twice") from error
    if found != slots:
        needed = " and ".join(f"{{{name}}}" for name in sorted(slots))
        raise UserError(f"{where}: {template!r} must contain {needed}, and no other slot in braces")


def _check(pair: Pair, where: str) -> None:
    for field, text in asdict(pair).items():
        if not text.strip():
            raise UserError(f"{where}: {field}: is blank; give it text")
    if pair.target == pair.other:
        raise UserError(
            f"{where}: other: is the same as target, {pair.target!r}; the pair offers no choice, change one of them"
        )
    check_slots(pair.question, {"first", "second"}, f"{where}: question")
