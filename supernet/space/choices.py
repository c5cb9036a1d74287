"""Step 1, the space: choices as plain data, architectures as values.

Nothing here builds a module. Sampling, counting, enumerating and parsing are functions on immutable data, so that
20,000 architectures are drawn in a fraction of a second and any searcher can work without touching a network.

Shape suffixes used in the project: N architectures or examples, P options of all choices, G ghost batches,
C channels, H height, W width.

References:
    Bender et al., "Understanding and Simplifying One-Shot Architecture Search", ICML 2018, section 3.1.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn

from supernet.base.markdown import table
from supernet.space.rules import Rule, broken

_MAX_SUBSETS = 65_536
"""A choice with more admissible subsets than this is refused: its table of subsets would not stay small."""

_COUNTED = 50_000
"""Combinations of picks up to which those that rules leave are counted."""

_TRIES = 10_000
"""Draws in a row that rules may forbid before drawing is given up."""

_REPR = 60
"""Characters of an architecture in its `repr`."""


class ArchitectureError(ValueError):
    """A text or value that is not an architecture of the space."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A place in the network where a non-empty subset of bounded size is picked from several options.

    Attributes:
        name: unique in its space; several places in the network may share one decision by sharing the name.
        options: names of the options, in order.
        max_picks: largest number of options that an architecture picks.
        inside: ``(choice, options)`` that this choice is nested in, or None. A nested choice is decided only where
            one of those options is picked.
        min_picks: smallest number of options that an architecture picks.
        kind: what the options do together. "paths": what they bring is combined, and the shapes stay the same
            whichever are live. "value": exactly one takes part (a width, a depth, a rate); everything on is the last.
            "concat": they lie side by side, so that shapes follow from which are live.
    """

    name: str
    options: tuple[str, ...]
    max_picks: int = 1
    inside: tuple[str, tuple[str, ...]] | None = None
    min_picks: int = 1
    kind: Literal["paths", "value", "concat"] = "paths"

    def __post_init__(self) -> None:
        for word in (self.name, *self.options):
            if not word or any(c.isspace() or c in "=+" for c in word):
                raise ValueError(f"name {word!r} of choice {self.name!r}: expected no space, '=' or '+' in it")
        if len(set(self.options)) != len(self.options) or not self.options:
            raise ValueError(f"choice {self.name!r}: expected distinct options, got {self.options}")
        if not 1 <= self.max_picks <= len(self.options):
            raise ValueError(
                f"choice {self.name!r}: expected max_picks from 1 to {len(self.options)}, got {self.max_picks}"
            )
        if not 1 <= self.min_picks <= self.max_picks:
            raise ValueError(
                f"choice {self.name!r}: expected min_picks from 1 to max_picks {self.max_picks}, got {self.min_picks}"
            )
        if self.kind == "value" and self.max_picks != 1:
            raise ValueError(f"choice {self.name!r}: expected max_picks 1 for a value, got {self.max_picks}")
        if sum(math.comb(len(self.options), k) for k in range(self.min_picks, self.max_picks + 1)) > _MAX_SUBSETS:
            raise ValueError(f"choice {self.name!r}: more than {_MAX_SUBSETS:,} subsets; lower max_picks")

    def subsets(self) -> tuple[tuple[str, ...], ...]:
        """All admissible picks, small ones first, each in the order of the options."""
        sizes = range(self.min_picks, self.max_picks + 1)
        return tuple(itertools.chain.from_iterable(itertools.combinations(self.options, k) for k in sizes))


@dataclass(frozen=True, slots=True)
class Architecture:
    """One pick for every choice that is reached; immutable, hashable, prints as one line of text.

    Attributes:
        picks: pairs of a choice's name and the names of the options picked, in the order of the space.
    """

    picks: tuple[tuple[str, tuple[str, ...]], ...]

    def __str__(self) -> str:
        return " ".join(
            [f"{name}={options[0] if len(options) == 1 else '+'.join(options)}" for name, options in self.picks]
        )

    def __repr__(self) -> str:
        return f"Architecture({self.id}: {textwrap.shorten(str(self), _REPR, placeholder=' ...')})"

    def _repr_markdown_(self) -> str:
        """For notebooks."""
        return table([("choice", "picks"), *((name, ", ".join(options)) for name, options in self.picks)], left=2)

    @property
    def id(self) -> str:
        """Ten hexadecimal digits that name this architecture in files and folders."""
        return hashlib.sha256(str(self).encode()).hexdigest()[:10]


@dataclass(frozen=True, eq=False)
class Space:
    """The choices of a network and how to make that network: plain immutable data.

    A space equals itself only. Networks are functions, which cannot be compared, and two networks may have the same
    choices and settings.

    Attributes:
        name: of the space, for messages and files.
        choices: every choice; one that is nested comes after the choice that it is nested in.
        network: makes the network with all its options, with new weights from the global generator
            (`build` seeds it); takes no argument.
        input_shape: of one example, without the batch dimension.
        settings: the fixed sizes, for messages and files (filters, cells, classes, ...).
        example: one example with a batch dimension, a tensor or a tuple or dict of tensors, where `input_shape` does
            not say enough.
        read: rewrites the text that a benchmark has for an architecture into ours, and returns other texts as they
            are; `parse` then takes both.
        canonical: a text that architectures with the same function share, whatever the values of weights; None if
            no two architectures have the same function, or that is not known.
        simplified: the architecture without what does nothing in it: the same function at the least cost. None if
            it is not known what does nothing.
        rules: what forbids architectures; see `supernet.forbid`.
        fixed: modules of a network that was made elastic which stay as they are, by their paths, and why.
        contiguous: whether the network runs on tensors in contiguous memory only, not in channels-last layout.
    """

    name: str
    choices: tuple[Choice, ...]
    network: Callable[[], nn.Module] = field(repr=False)
    input_shape: tuple[int, ...] = ()
    settings: tuple[tuple[str, object], ...] = ()
    read: Callable[[str], str] | None = field(default=None, repr=False)
    example: Any = field(default=None, repr=False)
    canonical: Callable[[Architecture], str] | None = field(default=None, repr=False)
    simplified: Callable[[Architecture], Architecture] | None = field(default=None, repr=False)
    rules: tuple[Rule, ...] = field(default=(), repr=False)
    fixed: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    contiguous: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        before: dict[str, Choice] = {}
        for choice in self.choices:
            if choice.name in before:
                raise ValueError(f"choice {choice.name!r} occurs twice in space {self.name!r}")
            if choice.inside is not None:
                parent, options = choice.inside
                if parent not in before or not options or not set(options) <= set(before[parent].options):
                    raise ValueError(
                        f"choice {choice.name!r} is nested in {parent}={'|'.join(options)}, which is not before it"
                    )
            before[choice.name] = choice
        if not before:
            raise ValueError(
                f"space {self.name!r} has no choice: put `Choose`, `Depth` or `value` into the network, where its "
                "modules are made (its forward pass is too late), or take `supernet.elastic` (--elastic), which makes "
                "choices for a network without any"
            )

    def __repr__(self) -> str:
        shape = f", examples {list(self.input_shape)}" if self.input_shape else ""
        return f"Space({self.name}: {len(self.choices)} choices, {self.size_text} architectures{shape})"

    def _repr_markdown_(self) -> str:
        """For notebooks."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings)
        rows = [("choice", "picks", "options", "nested in")]
        for choice in self.choices:
            picks = "1" if choice.max_picks == 1 else f"{choice.min_picks} to {choice.max_picks}"
            inside = "" if choice.inside is None else f"{choice.inside[0]}={' or '.join(choice.inside[1])}"
            rows.append((choice.name, picks, ", ".join(choice.options), inside))
        return f"**{self.name}**: {self.size_text} architectures; {settings or 'no settings'}\n\n{table(rows, left=4)}"

    @cached_property
    def columns(self) -> dict[tuple[str, str], int]:
        """Column of ``live_GP`` for each (choice, option)."""
        pairs = [(choice.name, option) for choice in self.choices for option in choice.options]
        return {pair: column for column, pair in enumerate(pairs)}

    @cached_property
    def _by_name(self) -> dict[str, Choice]:
        return {choice.name: choice for choice in self.choices}

    @cached_property
    def _children(self) -> dict[str, list[Choice]]:
        children: dict[str, list[Choice]] = {}
        for choice in self.choices:
            if choice.inside is not None:
                children.setdefault(choice.inside[0], []).append(choice)
        return children

    def _reached(self, choice: Choice, picked: tuple[str, ...]) -> list[Choice]:
        """The choices nested in `choice` that have to be decided when it picks these options."""
        nested = self._children.get(choice.name, ())
        return [child for child in nested if child.inside is not None and not set(child.inside[1]).isdisjoint(picked)]

    @cached_property
    def _tables(self) -> dict[str, tuple[tuple[tuple[str, ...], ...], list[int]]]:
        """For each choice its subsets and the running total of architectures that begin with each."""
        tables: dict[str, tuple[tuple[tuple[str, ...], ...], list[int]]] = {}
        for choice in reversed(self.choices):  # children come after their parents
            subsets = choice.subsets()
            ways = (math.prod(tables[child.name][1][-1] for child in self._reached(choice, s)) for s in subsets)
            tables[choice.name] = (subsets, list(itertools.accumulate(ways)))
        return tables

    @cached_property
    def combinations(self) -> int:
        """Number of architectures, with those that rules forbid; exact."""
        return math.prod(self._tables[c.name][1][-1] for c in self.choices if c.inside is None)

    @cached_property
    def size(self) -> int:
        """Number of architectures: exact, but with rules in a large space an upper bound; see `size_text`."""
        return self.combinations if self._allowed is None else len(self._allowed)

    @property
    def size_text(self) -> str:
        """The number of architectures for people, which says whether it is a bound."""
        return f"{'at most ' if self.rules and self._allowed is None else ''}{self.size:,}"

    @cached_property
    def _allowed(self) -> list[int] | None:
        """The numbers of the architectures that rules leave; None if there are no rules, or too many to count."""
        if not self.rules or self.combinations > _COUNTED:
            return None
        return [index for index in range(self.combinations) if self.allows(self.at(index))]

    def broken(self, architecture: Architecture) -> int:
        """How many rules forbid an architecture."""
        return broken(self.rules, self._by_name, dict(architecture.picks)) if self.rules else 0

    def allows(self, architecture: Architecture) -> bool:
        """Whether no rule forbids an architecture."""
        return self.broken(architecture) == 0

    def allows_row(self, live_P: torch.Tensor) -> bool:
        """Whether no rule forbids what is live in a ghost batch; rules on what several options of are live do not."""
        picks = self._live_options(live_P)
        undecided = [c.name for c in self.choices if not c.min_picks <= len(picks[c.name]) <= c.max_picks]
        return broken(self.rules, self._by_name, picks, undecided) == 0

    def _live_options(self, live_P: torch.Tensor) -> dict[str, tuple[str, ...]]:
        """The live options of each choice, reached or not."""
        live = live_P.tolist()
        return {c.name: tuple(o for o in c.options if live[self.columns[c.name, o]]) for c in self.choices}

    def architecture_of(self, live_P: torch.Tensor) -> Architecture:
        """The architecture that a row of live_GP stands for: the inverse of `live`, for one ghost batch."""
        return self.reached(self._live_options(live_P))

    def at(self, index: int) -> Architecture:
        """The architecture with this number, whether rules forbid it or not: a bijection from ``range(combinations)``.

        Raises:
            IndexError: the number is not in that range.
        """
        if not 0 <= index < self.combinations:
            raise IndexError(f"expected an index from 0 to {self.combinations - 1:,}, got {index:,}")
        indices: dict[str, int] = {}  # of the choices reached so far, the part of the index that is theirs to decode
        for choice in self.choices:
            if choice.inside is None:
                index, indices[choice.name] = divmod(index, self._tables[choice.name][1][-1])
        picks = []
        for choice in self.choices:
            if choice.name not in indices:
                continue
            subsets, totals = self._tables[choice.name]
            own_index = indices[choice.name]
            position = bisect.bisect_right(totals, own_index)
            own_index -= totals[position - 1] if position else 0
            picks.append((choice.name, subsets[position]))
            if self._children:
                for child in self._reached(choice, subsets[position]):
                    own_index, indices[child.name] = divmod(own_index, self._tables[child.name][1][-1])
        return Architecture(tuple(picks))

    def __iter__(self) -> Iterator[Architecture]:
        """All architectures; only for small spaces."""
        everything = map(self.at, range(self.combinations))
        return filter(self.allows, everything) if self.rules else everything

    def first(self) -> Architecture:
        """The first architecture: by the first options, if no rule forbids that."""
        return next(iter(self))

    def sample(self, *, generator: torch.Generator) -> Architecture:
        """One architecture, uniform over all of the space (our reading of the paper's "fixed distribution").

        Raises:
            ValueError: rules forbid nearly all of the space.
        """
        for _ in range(_TRIES):
            architecture = self.at(_uniform_integer(self.combinations, generator))
            if self.allows(architecture):
                return architecture
        raise ValueError(f"rules forbid nearly all of the space {self.name!r}: none of {_TRIES:,} draws is allowed")

    def sample_distinct(self, number: int, *, generator: torch.Generator) -> list[Architecture]:
        """Architectures drawn uniformly without repeats, in the order drawn; with rules in a large space there may be
        fewer.

        Raises:
            ValueError: the space has fewer architectures than `number`.
        """
        if number > self.size:
            raise ValueError(f"expected at most {self.size:,} architectures (the whole space), got {number:,}")
        if self._allowed is not None:
            order = torch.randperm(self.size, generator=generator)[:number].tolist()
            return [self.at(self._allowed[place]) for place in order]
        if self.rules:
            drawn: dict[Architecture, None] = {}
            for _ in range(_TRIES + 4 * number):
                if len(drawn) == number:
                    break
                drawn[self.sample(generator=generator)] = None
            return list(drawn)
        if self.size <= 4 * number:  # drawing with rejection would be slow where most of the space is wanted
            return [self.at(i) for i in torch.randperm(self.size, generator=generator)[:number].tolist()]
        indices: dict[int, None] = {}
        while len(indices) < number:
            indices[_uniform_integer(self.size, generator)] = None
        return [self.at(index) for index in indices]

    @cached_property
    def subsets(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """For each choice all its admissible picks."""
        return {choice.name: self._tables[choice.name][0] for choice in self.choices}

    def ways(self, name: str) -> list[int]:
        """For each admissible pick of a choice the number of ways to go on in the choices nested in it."""
        totals = self._tables[name][1]
        return [b - a for a, b in itertools.pairwise([0, *totals])]

    def choice(self, name: str) -> Choice:
        """The choice with this name."""
        return self._by_name[name]

    def reached(self, picks: Mapping[str, tuple[str, ...]]) -> Architecture:
        """The architecture that picks these; what choices pick that are not reached is left out.

        Args:
            picks: for each choice, reached or not, the options picked, in the order of the choice.
        """
        kept: dict[str, tuple[str, ...]] = {}
        for choice in self.choices:
            inside = choice.inside
            if inside is None or not set(inside[1]).isdisjoint(kept.get(inside[0], ())):
                kept[choice.name] = picks[choice.name]
        return Architecture(tuple(kept.items()))

    def everything_on(self) -> Architecture:
        """Every option of every choice ("All On" in the paper): a reference, in general no member of the space.

        For a value, of which only one option can take part, that is the last option.
        """
        return Architecture(tuple((c.name, c.options[-1:] if c.kind == "value" else c.options) for c in self.choices))

    def parse(self, text: str) -> Architecture:
        """The architecture that prints as `text`, in any order of words and of options; quotes around it do not matter.

        Raises:
            ArchitectureError: the text does not fit this space; the message names the choice.
        """
        text = text.strip()
        while len(text) > 1 and text[0] == text[-1] and text[0] in "'\"`":
            text = text[1:-1].strip()
        by_name: dict[str, tuple[str, ...]] = {}
        for pair in (self.read(text) if self.read else text).split():
            name, equals, options = pair.partition("=")
            if not equals or name in by_name:
                raise ArchitectureError(f"expected words CHOICE=OPTION+OPTION, each choice once; got {pair!r}")
            if name not in self._by_name:
                raise ArchitectureError(f"no choice {name!r} in space {self.name!r}: it has {', '.join(self._by_name)}")
            by_name[name] = tuple(options.split("+"))
        picks: list[tuple[str, tuple[str, ...]]] = []
        reached: dict[str, tuple[str, ...]] = {}
        for choice in self.choices:
            if choice.inside is not None and set(choice.inside[1]).isdisjoint(reached.get(choice.inside[0], ())):
                if choice.name in by_name:
                    parent, others = choice.inside
                    raise ArchitectureError(
                        f"choice {choice.name!r} is given, but {parent}={' or '.join(others)} is not picked"
                    )
                continue
            if choice.name not in by_name:
                raise ArchitectureError(f"choice {choice.name!r} has no pick; its options: {', '.join(choice.options)}")
            picked = by_name[choice.name]
            for option in picked:
                if option not in choice.options or picked.count(option) > 1:
                    raise ArchitectureError(
                        f"{choice.name}={'+'.join(picked)}: expected distinct options of {', '.join(choice.options)}"
                    )
            reached[choice.name] = tuple(option for option in choice.options if option in picked)
            picks.append((choice.name, reached[choice.name]))
        architecture = Architecture(tuple(picks))
        for name, picked in picks:
            choice = self._by_name[name]
            if len(picked) < choice.min_picks:
                raise ArchitectureError(f"choice {name!r}: expected at least {choice.min_picks} options")
            if len(picked) > choice.max_picks and architecture != self.everything_on():
                raise ArchitectureError(f"choice {name!r}: expected at most {choice.max_picks} options")
        if architecture != self.everything_on() and not self.allows(architecture):
            raise ArchitectureError(f"a rule forbids {architecture} (supernet.forbid in the network's function)")
        return architecture

    def live(self, architectures: Sequence[Architecture]) -> torch.Tensor:
        """Rows of ``live_GP`` in which just these architectures are live: bool [len(architectures), P].

        Raises:
            ArchitectureError: an architecture is of another space.
        """
        rows: list[int] = []
        columns: list[int] = []
        try:
            for row, architecture in enumerate(architectures):
                for name, options in architecture.picks:
                    rows.extend([row] * len(options))
                    columns.extend(self.columns[name, option] for option in options)
        except KeyError as error:
            raise ArchitectureError(f"space {self.name!r} has no option {'='.join(error.args[0])}") from None
        live = torch.zeros(len(architectures), len(self.columns), dtype=torch.bool)
        live[rows, columns] = True
        return live


def _uniform_integer(bound: int, generator: torch.Generator) -> int:
    """Uniform over ``range(bound)``, for any size of `bound`: 32 bits at a time, redrawn when beyond it."""
    limbs = max(1, -(-(bound - 1).bit_length() // 32))
    shift = 32 * limbs - max(1, (bound - 1).bit_length())
    while True:
        value = 0
        for limb in torch.randint(0, 2**32, (limbs,), generator=generator).tolist():
            value = (value << 32) | limb
        if value >> shift < bound:
            return value >> shift
