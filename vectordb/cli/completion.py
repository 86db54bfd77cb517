"""``vectordb completion bash | zsh | fish``: a script that completes commands, flags, choices and files, made from the parsers."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass

from .options import Command

SHELLS = ("bash", "zsh", "fish")
_DETAILS = """\
Print the script of your shell and load it:
  bash  echo 'source <(vectordb completion bash)' >> ~/.bashrc
  zsh   vectordb completion zsh > DIR/_vectordb, where DIR is in $fpath; or: source <(vectordb completion zsh) after compinit
  fish  vectordb completion fish > ~/.config/fish/completions/vectordb.fish
Print it again after an upgrade.
"""
_FILES = ("FILE", "DIR", "FROM", "TO", "RESULTS")  # metavars of arguments that are paths


def add_arguments(parser: Command) -> None:
    parser.epilog = _DETAILS
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="the shell: bash, zsh or fish")


def run(arguments: argparse.Namespace) -> int:
    from .main import parsers

    described = {name: _described(command) for name, command in parsers().items()}
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[arguments.shell](described), end="")
    return 0


@dataclass(frozen=True)
class _Flag:
    """One flag: its spellings, its help text, and what follows it: "" nothing, "file" a path, "value" anything, or one of choices."""

    names: tuple[str, ...]
    about: str
    takes: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class _Described:
    about: str
    flags: tuple[_Flag, ...]
    choices: tuple[str, ...]  # of a word that isn't a path
    commands: tuple[str, ...]  # that it has itself


def _described(command: argparse.ArgumentParser) -> _Described:
    flags, choices, commands = [], [], []
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands += action.choices
        elif action.option_strings:
            about = " ".join((action.help or "").replace("%%", "%").split())
            metavar = action.metavar if isinstance(action.metavar, str) else ""
            takes = "" if action.nargs == 0 else "file" if metavar in _FILES else "value"
            flags.append(_Flag(tuple(action.option_strings), about, takes, tuple(map(str, action.choices or ()))))
        else:
            choices += map(str, action.choices or ())
    return _Described(" ".join((command.description or "").split()), tuple(flags), tuple(choices), tuple(commands))


def _nested(described: dict[str, _Described]) -> str:
    """The commands that have commands of their own, as alternatives of a shell pattern."""
    return "|".join(name for name, command in described.items() if command.commands)


def _top(described: dict[str, _Described]) -> list[str]:
    return [name for name in described if " " not in name]


def _bash(described: dict[str, _Described]) -> str:
    cases = []
    for name, command in described.items():
        files, values, choices = [], [], []
        for flag in command.flags:
            pattern = "|".join(flag.names)
            if flag.choices:
                choices.append(f"{pattern}) words={shlex.quote(' '.join(flag.choices))} flags= files= ;;")
            elif flag.takes:
                (files if flag.takes == "file" else values).append(pattern)
        after = [*choices]
        after += [f"{'|'.join(files)}) words= flags= files=yes ;;"] if files else []
        after += [f"{'|'.join(values)}) words= flags= files= ;;"] if values else []
        flags = " ".join(flag_name for flag in command.flags for flag_name in flag.names)
        words = " ".join(command.commands or command.choices)
        lines = [f"    {shlex.quote(name)})", f"      words={shlex.quote(words)} flags={shlex.quote(flags)} files={'' if words else 'yes'}"]
        lines += ['      case "$previous" in', *(f"        {line}" for line in after), "      esac"] if after else []
        cases += [*lines, "      ;;"]
    top = shlex.quote(" ".join(_top(described)))
    return f"""\
# bash completion of vectordb; made by: vectordb completion bash
_vectordb() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}"
  local words={top} flags='--help --version' files=
  if ((COMP_CWORD == 1)); then command=; fi
  case "$command" in
    {_nested(described)}) if ((COMP_CWORD > 2)); then command="$command ${{COMP_WORDS[2]}}"; fi ;;
  esac
  case "$command" in
{chr(10).join(cases)}
  esac
  if [[ $current == -* ]]; then words=$flags files=; fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [[ -n $files ]]; then
    compopt -o filenames 2> /dev/null
    local IFS=$'\\n'
    COMPREPLY+=($(compgen -f -- "$current"))
  fi
}}
complete -F _vectordb vectordb
"""


def _zsh(described: dict[str, _Described]) -> str:
    def text(about: str) -> str:
        return "".join(f"\\{c}" if c in "[]:\\" else c for c in about)

    cases = []
    for name, command in described.items():
        specs = []
        for flag in command.flags:
            action = f"({' '.join(flag.choices)})" if flag.choices else "_files" if flag.takes == "file" else " "
            after = f":{flag.names[-1].lstrip('-')}:{action}" if flag.takes else ""
            specs += [shlex.quote(f"*{flag_name}[{text(flag.about)}]{after}") for flag_name in flag.names]
        word = " ".join(command.commands or command.choices)
        specs.append(shlex.quote(f"*:word:({word})" if word else "*:file:_files"))
        cases += [f"    {shlex.quote(name)})", "      _arguments \\", " \\\n".join(f"        {spec}" for spec in specs), "      ;;"]
    top = "\n".join(f"      {shlex.quote(f'{name}:{text(described[name].about)}')}" for name in _top(described))
    return f"""\
#compdef vectordb
# zsh completion of vectordb; made by: vectordb completion zsh
_vectordb() {{
  if ((CURRENT == 2)); then
    local -a commands=(
{top}
    )
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case "$command" in
    {_nested(described)})
      if ((CURRENT > 2)); then
        command="$command $words[2]"
        shift words
        ((CURRENT--))
      fi
      ;;
  esac
  case "$command" in
{chr(10).join(cases)}
  esac
}}
if [[ $funcstack[1] == _vectordb ]]; then _vectordb "$@"; else compdef _vectordb vectordb; fi
"""


def _fish(described: dict[str, _Described]) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = ["# fish completion of vectordb; made by: vectordb completion fish", "complete -c vectordb -n __fish_use_subcommand -f"]
    for name in _top(described):
        lines.append(f"complete -c vectordb -n __fish_use_subcommand -a {name} -d {quoted(described[name].about)}")
    for name, command in described.items():
        first, _, second = name.partition(" ")
        seen = f"__fish_seen_subcommand_from {first}" + (f"; and __fish_seen_subcommand_from {second}" if second else "")
        start = f"complete -c vectordb -n {quoted(seen)}"
        if command.commands:
            inner = " ".join(command.commands)
            lines.append(f"complete -c vectordb -n {quoted(f'{seen}; and not __fish_seen_subcommand_from {inner}')} -f -a {quoted(inner)}")
        if command.choices:
            lines.append(f"{start} -f -a {quoted(' '.join(command.choices))}")
        for flag in command.flags:
            spelt = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
            after = f" -x -a {quoted(' '.join(flag.choices))}" if flag.choices else {"": "", "file": " -r -F", "value": " -x"}[flag.takes]
            lines.append(f"{start} {spelt}{after} -d {quoted(flag.about)}")
    return "\n".join(lines) + "\n"
