"""What a campaign is given from outside: the files of specs, of corpora of the user's own, and folders of weights."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.config.campaign import Spec
from msm_hpc.config.compose import config_folder
from msm_hpc.config.stages import ModelConfig
from msm_hpc.graph.steps import File


def weights_folder(model: ModelConfig) -> Path:
    """Where the weights of a model that is not on a hub lie.

    Raises:
        UserError: they are in a Python package that is not installed.
    """
    if model.package is None:
        assert model.hf is not None
        return Path(model.hf).resolve()
    found = find_spec(model.package)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"model.hf={model.hf}: the package is not installed; see configs/model/{model.name}.yaml")
    return Path(found.submodule_search_locations[0])


def own_key(source: str) -> str:
    """The setting that names a file of the user's own: ``data.documents.SPEC`` of the source ``documents-SPEC``."""
    return f"data.{re.sub('[-/]', '.', source, count=1)}"


def own_file(source: str, file: Path) -> File:
    """A corpus of the user's own, under the name it was given: a link may lead to a name without its ending.

    Raises:
        UserError: there is no such file.
    """
    if not file.exists():
        raise UserError(f"{own_key(source)}: there is no file {file}; give the path of a file")
    if not file.is_file():
        raise UserError(f"{own_key(source)}: {file} is not a file; give the path of a file, or leave the setting out")
    return File(file.absolute())


def spec_file(spec: Spec) -> Path:
    """The Markdown file of a spec.

    Raises:
        UserError: there is no such file.
    """
    file = spec.file or config_folder() / "spec" / f"{spec.name}.md"
    if not file.is_file():
        raise UserError(
            f"campaign.specs: no file {file} for spec {spec.name!r}; create it, give `file`, or give its "
            f"documents: data.documents.{spec.name}=FILE.jsonl"
        )
    return file
