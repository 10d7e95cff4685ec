"""The environment variables of programs that have a Python of their own."""

from __future__ import annotations

import os

_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
"""Variables that another interpreter would take for its own."""


def for_another_interpreter() -> dict[str, str]:
    """The variables of this process without those that are about its own interpreter."""
    return {name: value for name, value in os.environ.items() if name not in _OURS}
