import shutil
import subprocess

import pytest

from supernet.program.commands import COMMANDS, main
from supernet.program.completion import SHELLS, options_of, script
from supernet.program.listing import recipe_files


def completed(text: str, *words: str) -> list[str]:
    """What bash proposes for the last of some words."""
    end = "_supernet; printf '%s\\n' \"${COMPREPLY[@]}\""
    line = f"{text}\nCOMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; {end}"
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout.split()


def test_options_are_read_from_a_help_text() -> None:
    text = "usage: x [--json]\n  --max-params, --min-params  limit\n  --train.lr X  `x --help-all` -- a--b ---"
    assert options_of(text) == ["--json", "--max-params", "--min-params", "--train.lr", "--help-all"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_options_recipes_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    text = capsys.readouterr().out
    assert completed(text, "supernet", "") == list(COMMANDS)
    assert completed(text, "supernet", "re") == ["retrain", "report", "refine", "recipes"]
    assert completed(text, "supernet", "run", "digits") == [
        name for name in recipe_files() if name.startswith("digits")
    ]
    assert completed(text, "supernet", "run", "--strategy", "e") == ["enumeration", "evolution"]
    assert "--max-params" in completed(text, "supernet", "search", "X", "--max")
    assert "--hours" in completed(text, "supernet", "run", "--")
    assert "--hours" not in completed(text, "supernet", "search", "--")
    assert completed(text, "supernet", "show", "X") == []  # files, by bash itself


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_of_all_shells_hold_all_names(shell: str) -> None:
    text = script(shell, {"run": ["--out", "--hours"], "show": ["--json"]}, {"run": ["a", "b"]}, {"--out": ["x"]})
    for word in ("run", "show", "out", "hours", "json", "a b"):
        assert word in text
    if shutil.which(shell) is not None:
        assert subprocess.run([shell, "-n"], input=text, capture_output=True, text=True).stderr == ""
