"""Tables from few measurements hold what all measurements would."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.space.tabulate import Figures, Key, Measured, Setting, Settings, Size, tabulated

SHAPING: dict[str, Settings] = {
    "width": (("2",), ("3",), ("5",)),
    "inner": (("1",), ("4",)),
    "stride": (("2",), ("1",)),
    "other": (("1",), ("2",), ("3",)),
}
NAMES = tuple(SHAPING)


def all_settings(shaping: Mapping[str, Settings]) -> list[Setting]:
    return [dict(zip(shaping, picks, strict=True)) for picks in itertools.product(*shaping.values())]


def product_of(picks: Settings) -> Figures:
    product = 1
    for (pick,) in picks:
        product *= int(pick)
    return product, product


def figures_at(setting: Setting, names: frozenset[str], factor: int) -> int:
    """Something that changes with each of these choices, from anywhere, and is no product."""
    return factor + sum(int(setting[name][0]) * 10 ** NAMES.index(name) for name in names)


modules = st.lists(
    st.tuples(
        st.frozensets(st.sampled_from(NAMES)),  # what its size follows from
        st.frozensets(st.sampled_from(NAMES)),  # what its ratio follows from
        st.frozensets(st.sampled_from(NAMES)),  # what it holds
        st.booleans(),  # whether its costs are multiples of the size that is told
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(modules, st.frozensets(st.sampled_from(NAMES)))
def test_tables_equal_all_measurements(
    described: list[tuple[frozenset[str], frozenset[str], frozenset[str], bool]], suspects: frozenset[str]
) -> None:
    """Whatever the costs follow from, and whatever is said of it."""
    sizes = {
        f"m{i}": Size(tuple(name for name in NAMES if name in of_size), product_of)
        for i, (of_size, *_) in enumerate(described)
    }

    def measure(setting: Setting) -> Measured:
        calls.append(tuple(setting.values()))
        result: Measured = {}
        for i, (of_size, of_ratio, _, multiple) in enumerate(described):
            first, second = product_of(tuple(setting[n] for n in NAMES if n in of_size)) if multiple else (1, 1)
            ratio = figures_at(setting, of_ratio, i)
            result[f"m{i}", ()] = (first, second * ratio, ratio)
        return result

    calls: list[Settings] = []
    held = {f"m{i}": holds for i, (_, _, holds, _) in enumerate(described)}
    tables = tabulated(SHAPING, held, sizes, suspects, measure)
    assert len(calls) == len(set(calls))
    for setting in all_settings(SHAPING):
        for key, figures in measure(setting).items():
            assert tables[key].rows[tuple(setting[name] for name in tables[key].choices)] == figures


def one_module(cost: Callable[[Setting], int]) -> Callable[[Setting], Measured]:
    return lambda setting: {("conv", ()): (cost(setting),)}


def cost_at(tables: Mapping[Key, object], setting: Setting) -> int:
    table = tables["conv", ()]
    return table.rows[tuple(setting[name] for name in table.choices)][0]  # type: ignore[attr-defined]  # a Table


def test_what_makes_no_difference_with_everything_on() -> None:
    """As where an image is down to one pixel, however large the next stride is."""

    def cost(setting: Setting) -> int:
        return -(-16 // (int(setting["a"][0]) * int(setting["b"][0]) * int(setting["c"][0])))

    shaping: dict[str, Settings] = dict.fromkeys("abc", (("1",), ("16",)))
    tables = tabulated(shaping, {}, {}, {"a", "b", "c"}, one_module(cost))
    assert [cost_at(tables, setting) for setting in all_settings(shaping)] == list(map(cost, all_settings(shaping)))


def test_a_module_that_is_not_there_with_everything_on() -> None:
    shaping: dict[str, Settings] = {"kind": (("new",), ("old",))}
    tables = tabulated(shaping, {}, {}, set(), lambda setting: {(setting["kind"][0], ()): (7,)})
    assert {key[0]: list(table.rows.values()) for key, table in tables.items()} == {
        "old": [(0,), (7,)],
        "new": [(7,), (0,)],
    }


def test_a_width_that_is_explained_takes_no_measurements() -> None:
    """The size has every combination, and the measurements are everything on, the trials and the other stride."""
    shaping: dict[str, Settings] = {
        **{name: tuple((str(i),) for i in range(1, 9)) for name in ("in", "out")},
        "stride": (("2",), ("1",)),
    }
    calls: list[Setting] = []

    def measure(setting: Setting) -> Measured:
        calls.append(setting)
        size, _ = product_of((setting["in"], setting["out"]))
        return {("conv", ()): (size, size * 64 // int(setting["stride"][0]) ** 2)}

    tables = tabulated(shaping, {}, {"conv": Size(("in", "out"), product_of)}, {"stride"}, measure)
    assert len(calls) <= 7
    assert len(tables["conv", ()].rows) == 8 * 8 * 2


def test_too_many_combinations_are_refused() -> None:
    shaping: dict[str, Settings] = {f"c{i}": (("1",), ("2",)) for i in range(13)}
    with pytest.raises(ValueError, match=r"depends on c0, .*, c12 in more than 4096 combinations: lower the number"):
        tabulated(shaping, {}, {}, set(), one_module(lambda setting: int("".join(p for (p,) in setting.values()))))


def test_what_only_several_choices_together_change_is_refused() -> None:
    shaping: dict[str, Settings] = {f"c{i}": (("1",), ("2",)) for i in range(40)}
    with pytest.raises(ValueError, match="module 'conv': it changes with several choices of values together"):
        tabulated(shaping, {}, {}, set(), one_module(lambda s: int(list(s.values()).count(("1",)) >= 38)))
