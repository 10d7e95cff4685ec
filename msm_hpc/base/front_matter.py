"""The YAML that a Markdown file may begin with, between two lines ``---``."""

from __future__ import annotations

import re

FRONT_MATTER = re.compile(r"\A---\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
