"""Texts of DARTS in the forms that circulate, against the benchmark's own conversion rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernet.space.choices import ArchitectureError
from supernet.spaces.darts import darts
from supernet.spaces.genotypes import OPERATIONS, read_genotype

SPACE = darts(channels=2, cells=3, num_classes=3, input_shape=(1, 8, 8))


@st.composite
def cells(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Eight pairs of an operation and its input, none of them `none`, the inputs of a node in any order."""
    pairs = []
    for node in range(4):
        inputs = draw(st.permutations(range(2 + node)))[:2]
        pairs += [(draw(st.sampled_from(OPERATIONS[1:])), source) for source in inputs]
    return pairs


def configuration(cell: list[tuple[str, int]], kind: str) -> dict[str, str]:
    """As NAS-Bench-301 has it: edges are numbered through all inputs of all nodes."""
    first, values = 0, dict[str, str]()
    for node in range(4):
        pairs = cell[2 * node : 2 * node + 2]
        values |= {f"NetworkSelectorDatasetInfo:darts:edge_{kind}_{first + source}": name for name, source in pairs}
        if node:
            sources = "_".join(str(source) for source in sorted(source for _, source in pairs))
            values[f"NetworkSelectorDatasetInfo:darts:inputs_node_{kind}_{2 + node}"] = sources
        first += 2 + node
    return values


@given(normal=cells(), reduce=cells())
def test_every_form_is_the_same_architecture(normal: list[tuple[str, int]], reduce: list[tuple[str, int]]) -> None:
    concat = "normal_concat=range(2, 6), reduce_concat=[2, 3, 4, 5]"
    genotype = f"Genotype(normal={normal}, reduce={reduce}, {concat})"
    expected = SPACE.parse(genotype)
    compact = tuple(tuple((source, OPERATIONS[1:].index(name)) for name, source in cell) for cell in (normal, reduce))
    nested = [[cell[i : i + 2] for i in (0, 2, 4, 6)] for cell in (normal, reduce)]
    forms: list[Any] = [
        f"DARTS_V2 = {genotype}",
        f"genotypes.{genotype}",
        f"'{genotype}'",
        genotype.replace("), (", "),\n    ("),
        f"Genotype({normal}, range(2, 6), {reduce}, [2, 3, 4, 5])",
        f"Genotype(normal={nested[0]}, reduce={nested[1]}, {concat})",
        (normal, reduce),
        [[[name, source] for name, source in cell] for cell in (normal, reduce)],
        tuple(tuple((source, name) for name, source in cell) for cell in (normal, reduce)),
        {"normal": normal, "reduce": reduce},
        {"normal": normal, "normal_concat": [2, 3, 4, 5], "reduce": reduce, "reduce_concat": [2, 3, 4, 5]},
        compact,
        {**configuration(normal, "normal"), **configuration(reduce, "reduce")},
    ]
    for form in forms:
        assert SPACE.parse(str(form)) == expected, form


PAIRS = [("skip_connect", 0), ("skip_connect", 1)] * 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2, 3]", "expected Genotype"),
        ("{'a': 1}", "normal: expected a list of 8 pairs"),
        ("a = b = (1, 2)", "expected Genotype"),
        (f"({PAIRS}, 3)", "reduce: expected a list of 8 pairs, 2 for each node; got 3"),
        (f"({PAIRS}, {PAIRS[:4]})", "reduce: expected a list of 8 pairs"),
        (f"({PAIRS}, {[(9, 9)] * 8})", r"reduce, pairs 1 and 2: expected 2 pairs .*; got \[\(9, 9\), \(9, 9\)\]"),
        (f"Genotype({PAIRS}, range(2, 6), {PAIRS}, range(2, 6), 1)", "expected Genotype"),
        (f"Genotype({PAIRS}, normal={PAIRS}, reduce={PAIRS})", "expected Genotype"),
        (f"Genotype(*{PAIRS})", "expected Genotype"),
    ],
)
def test_what_has_none_of_the_forms_is_refused(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        read_genotype(text)
