"""Runs the commands of the tutorials, and writes what they print into the pages.

    python docs/site/execute.py             # all pages of PAGES, in this order, in one empty folder
    python docs/site/execute.py limits ...  # these pages only, in the folder as the last call left it

A page shows a command and, if it is wanted, what it printed:

    <!-- run -->
    ```shell
    supernet recipes
    ```

    <!-- output: last 3 -->
    ...
    <!-- end -->

`run: 2` expects exit code 2. An output is "all", "first N" or "last N" lines; "+messages" adds what goes to stderr.
Longer lines are wrapped. A command that ends otherwise than expected ends the work, and its page stays as it was.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "tutorials"
PAGES = (
    "start", "images", "network", "verdict", "limits", "refine", "export", "machines", "python", "troubleshooting",
)  # fmt: skip
"""In docs/guide, in the order of reading: a page may use the runs of earlier ones."""

BLOCK = re.compile(
    r"<!-- run(?:: (?P<code>\d+))? -->\n```(?P<language>shell|python)\n(?P<text>.*?)```\n"
    r"(?:\n<!-- output: (?P<form>[^>]+?) -->\n(?P<shown>.*?)<!-- end -->\n)?",
    re.DOTALL,
)
WIDTH = 110


def shown(output: str, form: str) -> str:
    """The lines of an output that a page shows.

    Args:
        output: of the command.
        form: "all", "first N" or "last N", also with "+messages", which does not matter here.
    """
    lines = [part for line in output.strip("\n").splitlines() for part in textwrap.wrap(line, WIDTH) or [""]]
    which, _, number = form.removesuffix("+messages").strip().partition(" ")
    if which == "first" and len(lines) > int(number):
        lines = [*lines[: int(number)], "..."]
    elif which == "last" and len(lines) > int(number):
        lines = ["...", *lines[-int(number) :]]
    return "\n".join(line.rstrip() for line in lines)


def run(block: re.Match[str], folder: Path) -> str:
    """Runs a block in a folder; returns stdout, and stderr too if the page shows messages. Paths are from the folder.

    Raises:
        SystemExit: another exit code than expected.
    """
    script = folder / f"block.{'py' if block['language'] == 'python' else 'sh'}"
    script.write_text(block["text"])
    command = [sys.executable, script.name] if script.suffix == ".py" else ["bash", "-eu", script.name]
    with_messages = (block["form"] or "").endswith("+messages")
    process = subprocess.run(
        command, cwd=folder, env=environment(folder), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if with_messages else subprocess.PIPE, check=False,
    )  # fmt: skip
    if process.returncode != int(block["code"] or 0):
        sys.exit(f"exit code {process.returncode}:\n{block['text']}{process.stdout}{process.stderr or ''}")
    return process.stdout.replace(f"{folder.resolve()}/", "")


def environment(folder: Path) -> dict[str, str]:
    """The variables that commands see: this tree's package, and a terminal of 80 columns without colours."""
    binaries = folder / ".bin"
    if not binaries.exists():
        binaries.mkdir(parents=True)
        code = "import sys; from supernet.program.commands import main; sys.exit(main())"
        (binaries / "supernet").write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{code}' \"$@\"\n")
        (binaries / "python").write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
        for path in binaries.iterdir():
            path.chmod(0o755)
    path = os.pathsep.join([str(binaries), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


def executed(text: str, folder: Path) -> str:
    """A page with its commands run in a folder and their outputs written anew."""

    def written(block: re.Match[str]) -> str:
        print(textwrap.indent(block["text"].rstrip(), "    "), flush=True)
        output = run(block, folder)
        if block["form"] is None:
            return block[0]
        head = block[0][: block.start("shown") - block.start()]
        return f"{head}\n```text\n{shown(output, block['form'])}\n```\n\n<!-- end -->\n"

    return BLOCK.sub(written, text)


def main() -> None:
    """Runs the pages that the command line names, or all."""
    pages = sys.argv[1:] or PAGES
    if pages is PAGES and FOLDER.exists():
        shutil.rmtree(FOLDER)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "examples").exists():
        shutil.copytree(ROOT / "examples", FOLDER / "examples")
    for name in pages:
        print(f"docs/guide/{name}.md", flush=True)
        page = ROOT / "docs" / "guide" / f"{name}.md"
        page.write_text(executed(page.read_text(), FOLDER))


if __name__ == "__main__":
    main()
