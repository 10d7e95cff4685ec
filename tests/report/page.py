"""An HTML page as tests read it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "br"}
LINES = {"h1", "h2", "h3", "p", "li", "tr", "summary", "caption"}
CELLS = {"th", "td"}
UNSEEN = {"style", "title", "figure"}
"""What is not text of the page; a figure is its label."""


class Page(HTMLParser):
    """Checks nesting, and collects the tags, attributes and text of a page, and the lines that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.lines: list[str] = []
        self._open: list[str] = []
        self._line: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "figure":
            self.lines.append(dict(attrs)["aria-label"] or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in CELLS:
            self._line.append("|")
        if tag in LINES and (line := " ".join(self._line).strip("| ")):
            self.lines.append(line)
        if tag in LINES:
            self._line = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if not UNSEEN & set(self._open):
            self._line += data.split()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
