from __future__ import annotations

import ast
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from supernet.export.writing.expressions import (
    WIDTH,
    Group,
    Item,
    Number,
    after,
    flat,
    form,
    leaves,
    lines,
    mapped,
    merged,
    of_call,
    operation,
)

NAMES = st.sampled_from(["x", "y", "a_rather_long_name", "self.block1_ops_sep3x3"])
NUMBERS = st.integers(0, 999).map(lambda value: Number((value,), "size"))


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    calls = st.builds(lambda name, args, named: of_call(name, *args, **named), NAMES, st.lists(inner, max_size=3),
                      st.dictionaries(st.sampled_from(["dim", "bias"]), inner, max_size=2))  # fmt: skip
    sums = st.builds(operation, inner, st.sampled_from(["+", "-", "*", "**", "@", "<", "&"]), inner)
    lists = st.lists(inner, max_size=4).map(lambda parts: Group("", tuple(map(Item, parts)), "[]"))
    tuples = st.lists(inner, max_size=3).map(lambda parts: Group("", tuple(map(Item, parts))))
    return st.one_of(calls, sums, lists, tuples, inner.map(lambda of: after(of, ".T")))


EXPRESSIONS = st.recursive(NAMES, grown, max_leaves=25)
NUMBERED = st.recursive(st.one_of(NAMES, NUMBERS), grown, max_leaves=25)


@given(EXPRESSIONS)
def test_lines_mean_what_one_line_means(expr: Any) -> None:
    text = lines("x = ", expr, "", 0)
    assert ast.dump(ast.parse("\n".join(text))) == ast.dump(ast.parse(f"x = {flat(expr)}"))
    if len(text) == 1:
        assert text[0] == f"x = {flat(expr)}"
    else:
        assert len(f"x = {flat(expr)}") > WIDTH


@given(NUMBERED, st.data())
def test_expressions_of_one_form_are_merged_number_by_number(expr: Any, data: st.DataObject) -> None:
    def other(leaf: Any) -> Any:
        return data.draw(NUMBERS) if isinstance(leaf, Number) else leaf

    twin = mapped(expr, other)
    assert form(twin) == form(expr)
    both = [[leaf for leaf in leaves(each) if isinstance(leaf, Number)] for each in (expr, twin)]
    together = [leaf for leaf in leaves(merged([expr, twin])) if isinstance(leaf, Number)]
    assert [n.values for n in together] == [(*a.values, *b.values) for a, b in zip(*both, strict=True)]


def test_parentheses_stand_where_they_have_to() -> None:
    total = operation("a", "+", "b")
    assert flat(operation(total, "*", "c")) == "(a + b) * c"
    assert flat(operation(operation("a", "*", "b"), "+", "c")) == "a * b + c"
    assert flat(operation("a", "-", operation("b", "-", "c"))) == "a - (b - c)"
    assert flat(operation(operation("a", "**", "b"), "**", "c")) == "(a ** b) ** c"
    assert flat(after(total, ".T")) == "(a + b).T"
    assert flat(of_call("f", total, dim=Number((1,)))) == "f(a + b, dim=1)"
    assert flat(Group("", (Item("a"),))) == "(a,)"
