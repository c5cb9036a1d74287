"""Which axes of tensors run over the same channels: layouts of axes, tied to each other.

An axis is laid out as runs side by side, as after a concatenation, and each run as a product of atoms, as after
flattening: the axis of ``[3 * heads * size]`` features is one run of three atoms. Two axes that are added to each other
have the same layout, so their atoms are tied; an axis that is later viewed as two has its atom replaced by two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Run = tuple[int, ...]
"""Atoms of a product, the outermost first; none of them is one channel."""

Layout = tuple[Run, ...]
"""Runs that lie side by side along an axis."""


class Ties:
    """Atoms, what stands for them, and which of them have to keep their length."""

    def __init__(self) -> None:
        self._lengths: list[int] = []
        self._stands: dict[int, Layout] = {}  # of atoms that were replaced: by what
        self.fixed: dict[int, str] = {}
        """Atoms that have to keep their length, and why."""

    def new(self, length: int, fixed: str | None = None) -> Layout:
        """An axis of its own."""
        return (self._run(length, fixed),)

    def _run(self, length: int, fixed: str | None = None) -> Run:
        if length == 1:
            return ()
        self._lengths.append(length)
        atom = len(self._lengths) - 1
        if fixed is not None:
            self.fixed[atom] = fixed
        return (atom,)

    def length(self, layout: Layout) -> int:
        """Channels of an axis."""
        return sum(map(self.length_of_run, layout))

    def length_of_run(self, run: Run) -> int:
        """Channels of a run."""
        return math.prod(self._lengths[atom] for atom in run)

    # ---- what stands for what ----

    def runs(self, layout: Layout) -> list[Run]:
        """The runs of an axis as they are now. Sums inside of products stay one atom."""
        runs: list[Run] = []
        for run in layout:
            run = self._followed(run)
            stands = self._stands.get(run[0]) if run else None
            runs += [run] if stands is None else self.runs(tuple(first + run[1:] for first in stands))
        return runs

    def _followed(self, run: Run) -> Run:
        """The run with atoms in place of those that were replaced by a product."""
        atoms: list[int] = []
        for atom in run:
            stands = self._stands.get(atom)
            atoms += [atom] if stands is None or len(stands) > 1 else self._followed(stands[0])
        return tuple(atoms)

    def expanded(self, layout: Layout) -> Layout:
        """The runs of an axis with no sum left in any product: what lies inside of a product is repeated."""
        runs: list[Run] = []
        for run in self.runs(layout):
            place = next((i for i, atom in enumerate(run) if atom in self._stands), None)
            if place is None:
                runs.append(run)
            else:
                outer = ((atom,) for atom in run[:place])
                self.fix(tuple(outer), "channels of several kinds repeat inside of it")
                once = self.expanded(tuple(part + run[place + 1 :] for part in self._stands[run[place]]))
                runs += once * self.length_of_run(run[:place])
        return tuple(runs)

    def _replace(self, atom: int, layout: Layout) -> None:
        self._stands[atom] = layout
        if atom in self.fixed:
            self.fix(layout, self.fixed[atom])

    def fix(self, layout: Layout, why: str) -> None:
        """Says that an axis has to keep its length."""
        for run in layout:
            for atom in self._followed(run):
                if atom in self._stands:
                    self.fix(self._stands[atom], why)
                else:
                    self.fixed.setdefault(atom, why)

    # ---- views ----

    def product(self, layouts: Iterable[Layout]) -> Run:
        """Several axes as one run, the outermost first."""
        atoms: list[int] = []
        for layout in layouts:
            runs = self.runs(layout)
            if len(runs) == 1:
                atoms += runs[0]
            else:
                (atom,) = self._run(self.length(layout))
                self._stands[atom] = tuple(runs)
                atoms.append(atom)
        return tuple(atoms)

    def divided(self, run: Run, lengths: Sequence[int], why: str) -> list[Layout]:
        """A run viewed as several axes of these lengths; where that cuts through an atom, it is replaced by two."""
        left = list(self._followed(run))
        axes: list[Layout] = []
        for length in lengths:
            taken: list[int] = []
            while length > 1:
                size = self._lengths[left[0]]
                if length % size == 0:
                    taken.append(left.pop(0))
                    length //= size
                elif size % length == 0 and left[0] not in self._stands:
                    outer, inner = self._run(length), self._run(size // length)
                    self._replace(left[0], (outer + inner,))
                    taken += outer
                    left[:1] = inner
                    length = 1
                else:
                    self.fix((run,), why)
                    return [self.new(length, why) for length in lengths]
            axes.append((tuple(taken),))
        return axes

    def cut(self, layout: Layout, lengths: Sequence[int], why: str) -> list[Layout]:
        """An axis as several, one after the other; their lengths add up to its own."""
        runs, pieces = self.runs(layout), []
        for length in lengths:
            piece: list[Run] = []
            while length:
                size = self.length_of_run(runs[0])
                if size > length:
                    halves = self._halved(runs[0], length)
                    if halves is None:
                        self.fix(layout, why)
                        return [self.new(length, why) for length in lengths]
                    runs = self.runs((*halves, *runs[1:]))
                    continue
                piece.append(runs.pop(0))
                length -= size
            pieces.append(tuple(piece))
        return pieces

    def _halved(self, run: Run, length: int) -> list[Run] | None:
        """A run as two, the first of this length; None if that cuts through more than its outermost atom."""
        first, inner = run[0], self.length_of_run(run[1:])
        if length % inner:
            return None
        halves = self._run(length // inner), self._run(self._lengths[first] - length // inner)
        self._replace(first, halves)
        return [half + run[1:] for half in halves]

    # ---- ties ----

    def tie(self, one: Layout, other: Layout, why: str) -> None:
        """Says that two axes of one length run over the same channels.

        Args:
            one, other: these.
            why: the reason that they are fixed for, if no layout fits both.
        """
        ones, others = self.runs(one), self.runs(other)
        while ones:
            a, b = self.length_of_run(ones[0]), self.length_of_run(others[0])
            if a == b:
                self._tie_runs(ones.pop(0), others.pop(0), why)
            else:
                longer = ones if a > b else others
                halves = self._halved(longer[0], min(a, b))
                if halves is None:
                    self.fix(one, why)
                    self.fix(other, why)
                    return
                longer[:1] = halves
            ones, others = self.runs(tuple(ones)), self.runs(tuple(others))  # what was tied may be in these too

    def _tie_runs(self, one: Run, other: Run, why: str) -> None:
        a, b = list(one), list(other)
        while a and b:
            if a[0] != b[0]:
                larger, smaller = (a, b) if self._lengths[a[0]] >= self._lengths[b[0]] else (b, a)
                if not self._tie_atoms(larger[0], smaller[0]):
                    self.fix((tuple(a), tuple(b)), why)
                    return
                a, b = list(self._followed(tuple(a))), list(self._followed(tuple(b)))
            if a[0] == b[0]:
                del a[0], b[0]
            else:  # sums, whose parts are tied
                self.tie(((a.pop(0),),), ((b.pop(0),),), why)

    def _tie_atoms(self, larger: int, smaller: int) -> bool:
        """Ties an atom to one that is no longer; false if the two have no common layout."""
        size, least = self._lengths[larger], self._lengths[smaller]
        if size == least:
            if larger in self._stands and smaller in self._stands:
                return True
            kept, gone = (larger, smaller) if larger in self._stands else (smaller, larger)
            self._replace(gone, ((kept,),))
            return True
        if size % least or larger in self._stands:
            return False
        self._replace(larger, ((smaller, *self._run(size // least)),))
        return True
