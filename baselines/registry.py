"""How a new file becomes a known name: a decorator puts it in a registry, which imports its package's files."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class UnknownName(KeyError):
    """A name that no file has registered."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(name)
        self.kind, self.name, self.known = kind, name, known

    def __str__(self) -> str:
        return f"unknown {self.kind} {self.name!r}; known: {', '.join(self.known)}"


class Registry(Mapping[str, T]):
    """Names to what they stand for.

    kind: what an entry is called in messages ("policy").
    package: the package each of whose modules is imported before the first look-up.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._entries: dict[str, T] = {}
        self._complete = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate the class or function that `name` stands for. Raises ValueError if the name is taken."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def _find(self) -> dict[str, T]:
        if not self._complete:
            self._complete = True  # first: a module of the package may look up names while it is imported
            try:
                for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                    importlib.import_module(f"{self.package}.{module.name}")
            except BaseException:
                self._complete = False
                raise
        return self._entries

    def __getitem__(self, name: str) -> T:
        entries = self._find()
        if name not in entries:
            raise UnknownName(self.kind, name, sorted(entries))
        return entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._find()))

    def __len__(self) -> int:
        return len(self._find())
