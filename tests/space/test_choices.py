"""Choices, architectures, and sampling from them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from supernet.space.choices import Architecture, ArchitectureError, Choice, Space
from tests.reference import all_architectures, uniformity
from tests.spaces_for_tests import elastic, nested, tiny_bender, tiny_macro, tiny_nasbench201


def space_of(*choices: Choice) -> Space:
    return Space("made", choices, nn.Identity)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Small spaces, some of their choices nested in the one before."""
    choices: list[Choice] = []
    for number in range(draw(st.integers(1, 4))):
        options = tuple(f"o{i}" for i in range(draw(st.integers(1, 4))))
        within = None
        if number > 0 and draw(st.booleans()):
            parent = draw(st.sampled_from(choices))
            most = 1 + (parent.max_picks == 1)  # nested in several options only where these exclude each other
            within = (parent.name, tuple(draw(st.lists(st.sampled_from(parent.options), min_size=1, max_size=most))))
        most = draw(st.integers(1, len(options)))
        choices.append(Choice(f"c{number}", options, most, within, draw(st.integers(1, most))))
    return space_of(*choices)


@given(spaces())
def test_numbers_and_architectures_are_one_to_one(space: Space) -> None:
    some = range(space.size) if space.size < 500 else range(0, space.size, space.size // 300)
    made = [space.at(i) for i in some]
    assert len(set(made)) == len(made)
    if space.size < 500:
        assert set(made) == set(all_architectures(space))


@given(spaces(), st.integers(0, 2**32))
def test_text_round_trip(space: Space, seed: int) -> None:
    architecture = space.sample(generator=torch.Generator().manual_seed(seed))
    assert space.parse(str(architecture)) == architecture
    assert space.parse(" ".join(reversed(str(architecture).split()))) == architecture
    assert hash(space.parse(str(architecture))) == hash(architecture)


@given(spaces(), st.integers(0, 2**32))
def test_live_holds_just_the_picks(space: Space, seed: int) -> None:
    architecture = space.sample(generator=torch.Generator().manual_seed(seed))
    (row,) = space.live([architecture])
    picked = {(name, option) for name, options in architecture.picks for option in options}
    assert {pair for pair, column in space.columns.items() if row[column]} == picked


@pytest.mark.parametrize(
    "space", [tiny_bender(choice_blocks=1), nested(), tiny_macro(), tiny_nasbench201(), elastic()], ids=lambda s: s.name
)
def test_sampling_is_uniform(space: Space) -> None:
    """Chi-square over all architectures. By chance it fails once in 10,000 seeds; the seed is fixed."""
    assert uniformity(space, 30 if space.size < 1000 else 5) > 1e-4


def test_nested_choices_are_decided_only_where_reached() -> None:
    space = space_of(Choice("a", ("x", "y")), Choice("b", ("p", "q", "r"), 1, ("a", ("y",))))
    assert space.size == 4
    assert [str(a) for a in space] == ["a=x", "a=y b=p", "a=y b=q", "a=y b=r"]


def test_distinct_samples_have_no_repeats_and_follow_the_seed() -> None:
    space = tiny_bender()
    draws = [space.sample_distinct(500, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) == 500
    whole = tiny_bender(choice_blocks=1)
    assert set(whole.sample_distinct(whole.size, generator=torch.Generator().manual_seed(0))) == set(whole)
    with pytest.raises(ValueError, match=f"at most {whole.size} architectures"):
        whole.sample_distinct(whole.size + 1, generator=torch.Generator())


def test_numbers_beyond_64_bits() -> None:
    space = space_of(*(Choice(f"c{i}", tuple("abcdefgh"), 8) for i in range(12)))
    assert space.size == 255**12 > 2**64
    drawn = space.sample_distinct(200, generator=torch.Generator().manual_seed(0))
    assert len(set(drawn)) == 200
    firsts = Counter(architecture.picks[0][1] for architecture in drawn)
    assert len(firsts) > 50, "the first choice hardly varies: the high digits of the number are not random"


def test_everything_on_is_a_reference_that_parses() -> None:
    space = tiny_bender()
    everything = space.everything_on()
    assert space.live([everything]).all()
    assert space.parse(str(everything)) == everything
    assert everything not in set(itertools.islice(space, 1000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "choice 'a' has no pick; its options: x, y"),
        ("a=x b", "expected words CHOICE=OPTION"),
        ("a=x a=y", "each choice once"),
        ("a=x c=p", "no choice 'c' in space 'made': it has a, b"),
        ("a=z b=p", "expected distinct options of x, y"),
        ("a=x+x b=p", "expected distinct options"),
        ("a=x+y b=p", "expected at most 1 options"),
        ("a=x b=p", "choice 'b' is given, but a=y is not picked"),
        ("a=y", "choice 'b' has no pick"),
    ],
)
def test_a_text_that_does_not_fit_says_why(text: str, message: str) -> None:
    space = space_of(Choice("a", ("x", "y")), Choice("b", ("p", "q", "r"), 1, ("a", ("y",))))
    with pytest.raises(ArchitectureError, match=message.replace("?", ".")):
        space.parse(text)


def test_live_refuses_architectures_of_other_spaces() -> None:
    with pytest.raises(ArchitectureError, match="no option a=z"):
        space_of(Choice("a", ("x", "y"))).live([Architecture((("a", ("z",)),))])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choice("a b", ("x",)), "expected no space"),
        (lambda: Choice("a", ("x", "x")), "distinct options"),
        (lambda: Choice("a", ()), "distinct options"),
        (lambda: Choice("a", ("x", "y"), 3), "max_picks from 1 to 2"),
        (lambda: Choice("a", tuple(f"o{i}" for i in range(30)), 30), "lower max_picks"),
        (lambda: space_of(Choice("a", ("x",)), Choice("a", ("x",))), "occurs twice"),
        (lambda: space_of(Choice("b", ("p",), 1, ("a", ("x",))), Choice("a", ("x",))), "not before it"),
        (lambda: space_of(), "no choice"),
    ],
)
def test_data_that_makes_no_sense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("index", [-1, 10**6])
def test_a_number_outside_of_the_space(index: int) -> None:
    with pytest.raises(IndexError, match="expected an index from 0 to"):
        tiny_bender(choice_blocks=1).at(index)
