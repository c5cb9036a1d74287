"""Directives of the site: what the program says of itself, written into pages when they are built.

`{modules} FOLDER` writes the modules of a folder of the package, from their docstrings; `{public}` the names that
`import supernet` offers; `{settings}` all settings with type, default and meaning; `{command} WORDS` what
`supernet WORDS` prints; `{commands}` the help of every command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import re
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import patch

import docstring_parser
import yaml
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]


class Modules(SphinxDirective):
    """The modules of a folder, each under a heading of its own."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parses one `automodule` for each file of the folder."""
        folder = ROOT / "supernet" / self.arguments[0]
        paths = sorted(path for path in folder.rglob("*.py") if path.stem != "__init__")
        names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
        text = "\n\n".join(f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```" for name in names)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _settings(kind: Any, prefix: str = "") -> list[str]:
    """Sections of a page: the settings of a dataclass, then those of the dataclasses in it."""
    from supernet.program.settings import describe

    hints = get_type_hints(kind)
    docs = {part.arg_name: " ".join((part.description or "").split())
            for part in docstring_parser.parse_from_object(kind).params}  # fmt: skip
    defaults = {field.name: _default(field) for field in dataclasses.fields(kind)}
    about = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
    lines = [f"## {prefix.rstrip('.') or 'General'}", about]
    for name, hint in hints.items():
        if not dataclasses.is_dataclass(hint):
            lines.append(f"`{prefix}{name}` = `{defaults[name]}` ({describe(hint)})\n: {docs[name]}")
    sections = ["\n\n".join(lines)] if len(lines) > 2 else []
    for name, hint in hints.items():
        if dataclasses.is_dataclass(hint):
            sections += _settings(hint, f"{prefix}{name}.")
    return sections


def _default(field: dataclasses.Field[Any]) -> str:
    """A default as YAML has it on one line."""
    if field.default is dataclasses.MISSING:
        if field.default_factory is dataclasses.MISSING:
            return "none"
        value = field.default_factory()
        if dataclasses.is_dataclass(value):
            return ""
    else:
        value = field.default
    value = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump(value, default_flow_style=True, width=1000).splitlines()[0])


class Settings(SphinxDirective):
    """Every setting of the configuration, from the dataclasses and their docstrings."""

    def run(self) -> list[nodes.Node]:
        """Parses a definition list for each group of settings."""
        from supernet.program.config import Config

        return self.parse_text_to_nodes("\n\n".join(_settings(Config)), allow_section_headings=True)


class Public(SphinxDirective):
    """The names that `import supernet` offers, each with the first sentence of its docstring."""

    def run(self) -> list[nodes.Node]:
        """Parses a list of links."""
        import supernet

        rows = []
        for name in supernet.__all__:
            thing = getattr(supernet, name)
            sentence = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
            is_module = inspect.ismodule(thing)
            link = f"[`{name}`]({name}.md)" if is_module else f"{{py:obj}}`{name} <{thing.__module__}.{name}>`"
            rows.append(f"- {link}: {sentence}")
        return self.parse_text_to_nodes("\n".join(rows))


class Command(Directive):
    """What a command prints, which must end without an error."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Runs the command in this process, for a terminal of 80 columns."""
        from supernet.program.commands import main

        text = io.StringIO()
        with patch.dict(os.environ, COLUMNS="80"), contextlib.redirect_stdout(text):
            code = main(self.arguments[0].split())
        if code:
            raise self.error(f"supernet {self.arguments[0]}: exit code {code}")
        return [nodes.literal_block(text.getvalue(), text.getvalue().rstrip(), language="text")]


class Commands(SphinxDirective):
    """The help of every command, each under a heading of its own."""

    def run(self) -> list[nodes.Node]:
        """Parses one `command` for each."""
        from supernet.program.commands import COMMANDS

        text = "\n\n".join(f"## {name}\n\n```{{command}} {name} --help\n```" for name in COMMANDS)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _prepared(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Makes a docstring what Napoleon and reStructuredText expect.

    Code has single backticks, as in Markdown; they want two, and an end before a letter. Napoleon takes the first line
    of a value's docstring for "TYPE: TEXT" if it has a colon; ours have no types, so an empty comment goes first.
    """
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)(\w?)", _literal, line) for line in lines]
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]


def _literal(match: re.Match[str]) -> str:
    return f"``{match[1]}``" + (f"\\ {match[2]}" if match[2] else "")


DIRECTIVES = {"modules": Modules, "public": Public, "settings": Settings, "command": Command, "commands": Commands}


def setup(app: Sphinx) -> dict[str, Any]:
    """Makes the directives known to Sphinx."""
    app.connect("autodoc-process-docstring", _prepared, priority=400)  # before Napoleon
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
