"""Scripts that complete the words of the command line in bash, zsh and fish.

They hold names only, and start nothing: pressing the key is as fast as the shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

SHELLS = ("bash", "zsh", "fish")

_BASH = """_supernet() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=""
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands}"
  elif [[ $word == -* ]]; then case ${{COMP_WORDS[1]}} in
{options}
    esac
  else case $before in
{values}
    *) case ${{COMP_WORDS[1]}} in
{names}
      esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _supernet supernet
"""


def options_of(text: str) -> list[str]:
    """The options that a help text names, in its order."""
    return list(dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][\w.-]*[\w]", text)))


def script(
    shell: str,
    options: Mapping[str, Sequence[str]],
    names: Mapping[str, Sequence[str]],
    values: Mapping[str, Sequence[str]],
) -> str:
    """The script of a shell.

    Args:
        shell: one of `SHELLS`.
        options: of each command.
        names: words that are no options, by the command that takes them.
        values: of some options.
    """
    if shell == "fish":
        return _fish(options, names, values)
    bash = _BASH.format(
        commands=" ".join(options),
        options=_cases(options, 4),
        values=_cases(values, 4),
        names=_cases(names, 6),
    )
    return f"autoload -U +X bashcompinit && bashcompinit\n{bash}" if shell == "zsh" else bash


def _cases(words: Mapping[str, Sequence[str]], indent: int) -> str:
    return "\n".join(f'{indent * " "}{name}) words="{" ".join(proposed)}" ;;' for name, proposed in words.items())


def _fish(
    options: Mapping[str, Sequence[str]], names: Mapping[str, Sequence[str]], values: Mapping[str, Sequence[str]]
) -> str:
    lines = [f'complete -c supernet -f -n __fish_use_subcommand -a "{" ".join(options)}"']
    for command, of_command in options.items():
        condition = f'-n "__fish_seen_subcommand_from {command}"'
        if command in names:
            lines.append(f'complete -c supernet {condition} -a "{" ".join(names[command])}"')
        for option in of_command:
            more = f' -x -a "{" ".join(values[option])}"' if option in values else ""
            lines.append(f"complete -c supernet {condition} -l {option.removeprefix('--')}{more}")
    return "\n".join(lines) + "\n"
