r"""A chat template run on contents that it cannot look into, to learn what it prints around them.

A template is a program: what it prints for one content may tell nothing of what it prints for the next. So it is run
with :class:`Traced` texts in the place of contents. These can be printed, joined, passed on and stripped. A question
whose answer depends on a content either gets an answer that holds for nearly every content, and the condition goes into
:class:`Conditions`, or it ends the run::

    '</think>' in content       False, for contents that do not hold </think>
    content | trim              the content, for contents with no white space around them
    content | length > 0        true, for contents that are not empty
    content | wordcount         NotUnderstood

What may be done with contents is listed here: Jinja's constructs in :data:`_NODES`, its filters and tests in
:data:`_FILTERS` and :data:`_TESTS`, and a string's methods in :class:`Traced`. Whatever is not listed is not
understood, and the chats go by the reference. What a template does without contents, as with roles, is free.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, NoReturn

import jinja2.filters
import jinja2.tests
from jinja2 import nodes
from jinja2.compiler import Frame
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from tokenization.chats.template import ChatTemplate

OPEN, SHUT = "\ue000", "\ue001"
"""Around the number of a message, these stand for its content in what is printed."""

_NODES = (
    *(nodes.Template, nodes.TemplateData, nodes.Output, nodes.If, nodes.For, nodes.Break, nodes.Continue, nodes.With),
    *(nodes.Assign, nodes.AssignBlock, nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.Call, nodes.Keyword),
    *(nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Name, nodes.NSRef, nodes.Getattr),
    *(nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.Compare, nodes.Operand, nodes.CondExpr, nodes.And),
    *(nodes.Or, nodes.Not, nodes.Concat, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod),
    *(nodes.Pow, nodes.Neg, nodes.Pos),
)


class NotUnderstood(Exception):
    """What is printed may depend on a content; the message says how."""


class Conditions:
    """For which contents a run holds: those that are not blank, and

    Attributes:
        absent: hold none of these;
        beginnings: begin with none of these characters;
        bare: have no white space around them.
    """

    def __init__(self) -> None:
        self.absent: set[str] = set()
        self.beginnings: set[str] = set()
        self.bare = False


class _Content(str):
    """The placeholder of a content."""


class Traced:
    """Text with contents in it; nothing can be done with it but what is written here."""

    def __init__(self, parts: Sequence[str], conditions: Conditions) -> None:
        self.parts, self.conditions = tuple(parts), conditions

    def _refuse(self, *_: object) -> NoReturn:
        raise NotUnderstood("a content is looked into")

    # Jinja catches a TypeError of some of these, and goes on as if the value were undefined.
    __str__ = __repr__ = __hash__ = __iter__ = __len__ = __getitem__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        raise NotUnderstood(f"{name} of a content is asked for")

    def __bool__(self) -> bool:
        return True

    def __add__(self, other: object) -> str | Traced:
        return joined((self, other)) if isinstance(other, str | Traced) else NotImplemented

    def __radd__(self, other: object) -> str | Traced:
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, str | Traced):
            return other != "" and other in self
        return NotImplemented

    def __contains__(self, text: object) -> bool:
        """False, on the condition that it is so."""
        if not isinstance(text, str) or not text or len(self.parts) > 1:
            raise NotUnderstood(f"{text!r} is sought in a content")
        self.conditions.absent.add(text)
        return False

    def startswith(self, text: str) -> bool:
        """False, on the condition that it is nowhere in the content."""
        return text in self

    def endswith(self, text: str) -> bool:
        """As :meth:`startswith`."""
        return text in self

    def split(self, separator: str) -> list[Traced]:
        """One piece, on the condition that the separator is not in it."""
        is_there = separator in self  # also notes the condition, which python -O must not leave out
        assert not is_there
        return [self]

    def strip(self, characters: str | None = None) -> Traced:
        """Without white space around it."""
        return self.lstrip(characters).rstrip(characters)

    def lstrip(self, characters: str | None = None) -> Traced:
        """Without white space before it."""
        for place, part in enumerate(self.parts):
            if isinstance(part, _Content):
                self._be_bare(characters)
                return Traced(self.parts[place:], self.conditions)
            if stripped := part.lstrip(characters):
                return Traced((stripped, *self.parts[place + 1 :]), self.conditions)
        raise AssertionError("there is a content")

    def rstrip(self, characters: str | None = None) -> Traced:
        """Without white space after it."""
        for place, part in reversed(list(enumerate(self.parts))):
            if isinstance(part, _Content):
                self._be_bare(characters)
                return Traced(self.parts[: place + 1], self.conditions)
            if stripped := part.rstrip(characters):
                return Traced((*self.parts[:place], stripped), self.conditions)
        raise AssertionError("there is a content")

    def _be_bare(self, characters: str | None) -> None:
        if characters is not None and not characters.isspace():
            raise NotUnderstood(f"{characters!r} are stripped off a content")
        self.conditions.bare = True


class _Length:
    """How long a traced text is: all that is known is that it is not 0."""

    def __gt__(self, other: object) -> bool:
        return self != other

    def __eq__(self, other: object) -> bool:
        if other != 0:
            self._refuse()
        return False

    def _refuse(self, *_: object) -> NoReturn:
        raise NotUnderstood("a content is measured")

    __str__ = __repr__ = __hash__ = _refuse


def joined(values: Iterable[object]) -> str | Traced:
    """Values printed one after another, as Jinja does."""
    parts: list[str] = []
    conditions = None
    for value in values:
        if isinstance(value, Traced):
            parts += value.parts
            conditions = value.conditions
        elif text := str(value):
            parts.append(text)
    return "".join(parts) if conditions is None else Traced(parts, conditions)


@dataclass(frozen=True)
class Tracer:
    """Prints as a template does, with a placeholder for each content.

    Attributes:
        template: the template.
        compiled: the same, to be run on traced texts.
        conditions: for which contents it holds what was printed so far.
    """

    template: ChatTemplate
    compiled: jinja2.Template
    conditions: Conditions

    @classmethod
    def of(cls, template: ChatTemplate) -> Tracer | None:
        """A tracer, or None where the template has a construct that is not listed."""
        environment = template.environment(_Environment)
        tree = environment.parse(template.source)
        if not all(isinstance(node, _NODES) for node in (tree, *tree.find_all(nodes.Node))):
            return None
        _guard(environment.filters, _FILTERS, _OWN_FILTERS)
        _guard(environment.tests, _TESTS, _OWN_TESTS)
        return cls(template, environment.from_string(template.source), Conditions())

    def fresh(self) -> Tracer:
        """The same, before it has printed anything."""
        return replace(self, conditions=Conditions())

    @property
    def source(self) -> str:
        """The template's text."""
        return self.template.source

    def print(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        prompt: bool = False,
        speaker: str | None = None,
    ) -> str:
        """The text of a chat whose contents are placeholders already; see :meth:`ChatTemplate.print`.

        Raises:
            TemplateRefuses: it does not take these messages.
            NotUnderstood: what it prints may depend on a content.
        """
        traced = [
            {**message, "content": Traced((_Content(message["content"]),), self.conditions)} for message in messages
        ]
        printed = self.template.run(self.compiled, traced, tools, prompt, speaker)
        return "".join(printed.parts) if isinstance(printed, Traced) else printed

    def begins(self, text: str, start: str) -> bool:
        """Whether ``text`` begins with ``start``, whatever the contents in both are.

        Raises:
            NotUnderstood: that depends on contents.
        """
        if text.startswith(start):
            return True
        same = next(at for at, (one, other) in enumerate(zip_longest(text, start)) if one != other)
        if same == len(text):
            return False  # what start has beyond text is not empty
        here, there = text[same], start[same]
        if text.rfind(OPEN, 0, same) > text.rfind(SHUT, 0, same) or here == there == OPEN:
            raise NotUnderstood("two contents are compared")
        if OPEN in (here, there):
            self.conditions.beginnings.add(there if here == OPEN else here)
        return False


class _Generator(NativeCodeGenerator):
    """What is printed stays as it is until it is joined."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    concat = staticmethod(joined)  # type: ignore[assignment]

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, Traced | _Length):
            raise NotUnderstood("a content is used as a key")
        return super().getitem(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        own = {
            name: value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars")
        }  # not Jinja's
        if (_holds(args) or _holds(own)) and not (isinstance(__obj, Macro) or __obj in (Namespace, dict)):
            raise NotUnderstood(f"a content is passed to {__obj!r}")
        return super().call(__context, __obj, *args, **kwargs)


def _guard(functions: dict[str, Any], listed: Set[str], own: Mapping[str, Callable[..., Any]]) -> None:
    """Filters or tests, to be used on contents: some of our own, some as they are, and the others guarded."""
    functions.update({name: _guarded(function) for name, function in functions.items() if name not in listed})
    functions.update(own)


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or test that takes no contents, nor anything that may hold one."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if _holds(args) or _holds(kwargs):
            raise NotUnderstood(f"a content is passed to {function.__name__}")
        return function(*args, **kwargs)

    return guarded


def _holds(value: Any) -> bool:
    """Whether there is a content in a value, or may be."""
    if value is None or isinstance(value, _PLAIN):
        return False
    if isinstance(value, dict):
        return any(map(_holds, value.values()))
    return not isinstance(value, list | tuple) or any(map(_holds, value))


_PLAIN = (str, int, float, range, Undefined, Context, EvalContext, jinja2.Environment)

# These take contents as they take any value: they ask nothing of it, or ask by what Traced answers.
_FILTERS = frozenset(("default", "d", "list", "first", "last", "map", "select", "selectattr", "reject", "rejectattr"))
_TESTS = frozenset(
    ("defined", "undefined", "none", "mapping", "boolean", "true", "false", "eq", "equalto", "==", "ne", "!=", "in")
)


def _length(value: Any) -> Any:
    return _Length() if isinstance(value, Traced) else len(value)


def _trim(value: Any, chars: str | None = None) -> Any:
    return value.strip(chars) if isinstance(value, Traced) else jinja2.filters.do_trim(value, chars)


def _string(value: Any) -> Any:
    return value if isinstance(value, Traced) else jinja2.filters.FILTERS["string"](value)


def _or_traced(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Traced) or test(value)


_OWN_FILTERS = {"trim": _trim, "string": _string, "length": _length, "count": _length}
_DEFAULT_TESTS: Mapping[str, Any] = jinja2.tests.TESTS
_OWN_TESTS = {name: _or_traced(_DEFAULT_TESTS[name]) for name in ("string", "sequence", "iterable")}
