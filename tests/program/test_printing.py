import json
from pathlib import Path
from typing import Any

import pytest

from supernet.base.files import read_json
from supernet.program.commands import main
from supernet.program.printing import describe_space, print_result, print_space
from supernet.search.table import read_candidates, write_failures
from supernet.space.cost import cost_table
from supernet.spaces import SPACES
from supernet.trust.tables import RESULT_KEYS

SPACE = SPACES["bender"](filters=2, cells=1, choice_blocks=1, input_shape=(1, 8, 8))


def test_facts_of_a_small_space_are_of_all_of_it() -> None:
    facts = describe_space(SPACE, samples=1000, seed=0)
    costs = cost_table(SPACE).costs(list(SPACE))
    assert facts["architectures"] == facts["sampled"]["number"] == SPACE.size == len(costs)
    for column, name in enumerate(("params", "params_without_norm", "macs")):
        assert facts["sampled"][name]["mean"] == pytest.approx(costs[:, column].mean())
    assert json.loads(json.dumps(facts))["name"] == "bender"
    SPACE.parse(facts["example"])


def test_draws_follow_from_the_seed() -> None:
    assert describe_space(SPACE, samples=5, seed=1) == describe_space(SPACE, samples=5, seed=1)
    assert describe_space(SPACE, samples=5, seed=1) != describe_space(SPACE, samples=5, seed=2)
    with pytest.raises(ValueError, match="samples: expected at least 1"):
        describe_space(SPACE, samples=0, seed=0)


def test_space_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    print_space(describe_space(SPACES["bender"](), samples=5, seed=0))
    lines = capsys.readouterr().out.splitlines()
    assert "6,002,115,840 architectures" in lines
    assert all(len(line) < 80 for line in lines[:-1])  # the last is an architecture, to be copied


def test_result_is_readable_at_any_size(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = read_json(finished_run / "results.json", RESULT_KEYS)
    for scale in (1, 1000, 1_000_000):
        big: dict[str, Any] = json.loads(json.dumps(result))
        for row in big["groups"].values():
            for name in ("params", "macs"):
                row[name] = {"mean": row[name]["mean"] * scale, "deviation": row[name]["deviation"] * scale}
        print_result(big)
        lines = capsys.readouterr().out.splitlines()
        assert all(len(line) < 80 for line in lines)
        assert [line[:6].strip() for line in lines[2:6]] == ["Top", "Small", "Random", "All On"]


def test_only_all_on_has_no_winner(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = read_json(finished_run / "results.json")
    result["networks"] = [row for row in result["networks"] if "rank" not in row]
    print_result(result)
    assert "winner" not in capsys.readouterr().out


def test_without_validation_accuracy(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = read_json(finished_run / "results.json")
    for row in result["networks"]:
        row["validation"] = []
    for row in result["groups"].values():
        del row["validation"]
    print_result(result)
    out = capsys.readouterr().out
    assert "winner by one-shot score" in out
    assert " -  " in out


def test_candidates_that_failed_are_named(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = run_folder / "candidates.sqlite"
    text = str(read_candidates(table, None)[3].architecture)
    write_failures(table, {text: "RuntimeError: the device is lost"})
    assert main(["top", str(run_folder), "--json"]) == 0
    top = json.loads(capsys.readouterr().out)
    assert top["failed"] == {text: "RuntimeError: the device is lost"}
    (row,) = [row for row in top["bands"][0] if "error" in row]
    assert (row["architecture"], row["value"], row["error"]) == (text, None, "RuntimeError: the device is lost")
    for command in ("top", "show"):
        assert main([command, str(run_folder)]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert f"1 candidate could not be scored (3 tries each), and rank last; the first is {text}" in out
        assert ("failed" in out) == (command == "top")
    table.write_bytes(b"x" * 5000)  # the result does not need it
    assert main(["show", str(run_folder)]) == 0
    assert "is damaged" in capsys.readouterr().err
