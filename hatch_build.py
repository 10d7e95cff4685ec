"""Compiles ``tokenization/engines/native`` when the package is installed, if there is GCC or Clang.

Without one the package works all the same: ``fastokens`` and ``tokenizers`` do what the program would.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension


class NativeBuild(BuildHookInterface):  # type: ignore[type-arg]
    """Builds the extension module beside its sources, for an editable install too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the files of a wheel are collected."""
        engines = Path(self.root, "tokenization", "engines")
        for old in _built(engines):
            old.unlink()
        extension = Extension(
            "tokenization.engines._bpe",
            ["tokenization/engines/native/module.cpp"],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            extra_compile_args=["-std=c++17", "-O3", "-g0"],
            py_limited_api=True,
            language="c++",
            optional=True,
        )
        command = Distribution({"ext_modules": [extension]}).get_command_obj("build_ext")
        command.inplace = True
        command.force = True
        with TemporaryDirectory() as objects:
            command.build_temp = command.build_lib = objects
            command.ensure_finalized()
            command.run()
        if built := _built(engines):
            artifacts = [str(path.relative_to(self.root)) for path in built]
            build_data.update(artifacts=artifacts, pure_python=False, infer_tag=True)


def _built(folder: Path) -> list[Path]:
    return [*folder.glob("_bpe*.so"), *folder.glob("_bpe*.pyd")]
