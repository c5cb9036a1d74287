"""Names that users misspell."""

from supernet.base.names import did_you_mean


def test_the_nearest_name_is_asked_for_if_one_is_near() -> None:
    assert did_you_mean("evolve", ["random", "evolution"]) == "did you mean 'evolution'?"
    assert did_you_mean("zzz", ["random", "evolution"]) == did_you_mean("random", []) == ""
