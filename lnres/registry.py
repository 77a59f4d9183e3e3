"""A choice is a row: one named option with its label, formula, paper and code."""

import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One option of a registry; ``make`` is the class, function or value that the name stands for."""

    name: str
    label: str
    formula: str = ""
    about: str = ""
    paper: str = ""
    make: Any = None

    @property
    def code(self) -> str:
        """The Python source behind the choice, as the code pane shows it."""
        return inspect.getsource(getattr(self.make, "func", self.make))  # of a partial, what it calls


class Registry:
    """Named choices of one kind, in the order they were added.

    >>> NORMS = Registry("norm")
    >>> @NORMS.add("none", "no norm", "y=x")
    ... def none(x): return x
    >>> NORMS["none"].label
    'no norm'

    A name that is not there raises ``ValueError`` with the names that are.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._choices: dict[str, Choice] = {}
        self._unlisted: set[str] = set()

    def add(self, name: str, label: str, formula: str = "", *, about: str = "", paper: str = "") -> Callable:
        """Register the decorated class or function; its docstring's first line is the description."""

        def register(make):
            said = about or (make.__doc__ or "").strip().splitlines()[0]
            self.put(name, label, formula, make=make, about=said, paper=paper)
            return make

        return register

    def put(
        self,
        name: str,
        label: str,
        formula: str = "",
        *,
        make: Any,
        about: str,
        paper: str = "",
        listed: bool = True,
    ) -> None:
        """Register a plain value, for choices that are data rather than code.

        One that is not ``listed`` is found by who knows its name, and appears nowhere else.
        """
        if name in self._choices:
            raise ValueError(f"{self.kind}={name!r} is registered twice")
        self._choices[name] = Choice(name, label, formula, about, paper, make)
        self._unlisted |= set() if listed else {name}

    def drop(self, name: str) -> None:
        """Forget a choice, if it is there."""
        self._choices.pop(name, None)
        self._unlisted.discard(name)

    def __getitem__(self, name: str) -> Choice:
        try:
            return self._choices[name]
        except (KeyError, TypeError):
            close = difflib.get_close_matches(str(name), self, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(f"{self.kind}={name!r}: choose one of {', '.join(self)}{hint}") from None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._choices if name not in self._unlisted)

    def __contains__(self, name: object) -> bool:
        return name in self._choices

    def __len__(self) -> int:
        return len(self._choices) - len(self._unlisted)
