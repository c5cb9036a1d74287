"""Rules that forbid combinations of picks: `supernet.forbid`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

Rule = Callable[[Mapping[str, Any]], object]
"""A function of what is picked (see `forbid`) that is true for what it forbids."""

_RULES: ContextVar[list[Rule] | None] = ContextVar("supernet_rules", default=None)


class Picking(Protocol):
    """What a rule needs to know of a choice; see `supernet.space.choices.Choice`."""

    @property
    def kind(self) -> str:
        """What the options do together."""

    @property
    def max_picks(self) -> int:
        """The largest number of options picked."""


class _Undecided(Exception):
    """A rule asked for a choice of which it is not known yet what is picked."""


def forbid(rule: Rule) -> None:
    """Forbids the architectures for which a rule is true. It is called in the function that makes the network.

    No search asks for them, no draw gives them, and no one-shot model is trained with them alone. A network that cannot
    be made with a forbidden combination of values need not be made with it.

    Args:
        rule: a function of a mapping from the names of all choices to what is picked: the number or text of a `value`,
            the number of blocks of a `Depth`, the name of an option, a tuple of names where several may be picked, and
            None for a choice that is nested in what is not picked. For instance
            ``supernet.forbid(lambda a: a["width"] % a["heads"] != 0)``.
    """
    rules = _RULES.get()
    if rules is not None:
        rules.append(rule)


@contextmanager
def noting_rules() -> Iterator[list[Rule]]:
    """Inside the ``with`` block rules are noted as they are made."""
    rules: list[Rule] = []
    token = _RULES.set(rules)
    try:
        yield rules
    finally:
        _RULES.reset(token)


class _Picked(Mapping[str, Any]):
    """What a rule is given: what is picked of each choice, in plain values."""

    def __init__(
        self, choices: Mapping[str, Picking], picks: Mapping[str, Sequence[str]], undecided: Collection[str]
    ) -> None:
        self._choices, self._picks, self._undecided = choices, picks, undecided

    def __getitem__(self, name: str) -> Any:
        choice = self._choices.get(name)
        if choice is None:
            raise KeyError(f"there is no choice {name!r}; there are {', '.join(self._choices)}")
        if name in self._undecided:
            raise _Undecided
        picked = self._picks.get(name)
        if picked is None:
            return None
        if choice.kind == "value":
            return _plain(picked[-1])
        return picked[0] if choice.max_picks == 1 else tuple(picked)

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)


def _plain(text: str) -> int | float | str:
    """The number that the name of an option of a value stands for; the name itself if it is a text."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text and any(letter.isdigit() for letter in text):
            return number
    return text


def broken(
    rules: Sequence[Rule],
    choices: Mapping[str, Picking],
    picks: Mapping[str, Sequence[str]],
    undecided: Collection[str] = (),
) -> int:
    """How many of some rules forbid these picks.

    Args:
        rules: the rules.
        choices: all choices by name.
        picks: the options picked of each choice; a choice without picks is not reached.
        undecided: names of choices of which it is not known what is picked. A rule that asks for one of them forbids
            nothing.

    Raises:
        ValueError: a rule raises an error; the message names the rule.
    """
    count = 0
    for rule in rules:
        try:
            count += bool(rule(_Picked(choices, picks, undecided)))
        except _Undecided:
            continue
        except Exception as error:  # a function of the user raises errors of any kind
            code = getattr(rule, "__code__", None)
            place = f" of {code.co_filename}:{code.co_firstlineno}" if code is not None else ""
            text = " ".join(f"{name}={'+'.join(picked)}" for name, picked in picks.items())
            reason = error.args[0] if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
            raise ValueError(f"the rule{place} that forbids fails for {text}: {reason}") from error
    return count
