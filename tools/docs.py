"""The documentation: pages that are made from the code, and the hook that mkdocs builds the site with.

``python tools/docs.py`` writes the pages that are made from the code: the command line, the settings, and the table of metrics in
docs/OPERATIONS.md. They are committed, and tests/docs/test_docs_pages.py fails when one is out of date.

mkdocs.yml names this file as a hook. The hook adds documents from outside docs/ to the site, and rewrites links between the two, so that
the same links work in a checkout and on the site.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import math
import posixpath
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Documents outside docs/ that the site has too: path in the repository → path in the site. Those that don't exist are left out.
OUTSIDE = {
    "ARCHITECTURE.md": "project/architecture.md",
    "FORMAT.md": "project/format.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
    "SECURITY.md": "project/security.md",
    "RELEASING.md": "project/releasing.md",
    "examples/README.md": "tutorials/examples.md",
    "bench/README.md": "benchmarks/release.md",
    "bench/HARNESS.md": "benchmarks/harness.md",
    "bench/RESULTS.md": "benchmarks/results.md",
}
_FENCE = re.compile(r"^(\s*)(```+|~~~+)")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")


# --- Markdown -------------------------------------------------------------------------------------------------------------------------


def prose(text: str) -> Iterator[tuple[int, str]]:
    """(line number, line) of all lines outside fenced code."""
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if fence is None and found:
            fence = found[2]
        elif fence is not None:
            if found and found[2].startswith(fence) and not line.strip().strip("`~"):
                fence = None
        else:
            yield number, line


def links(text: str) -> Iterator[tuple[int, str]]:
    """(line number, target) of every link and image outside code."""
    for number, line in prose(text):
        for found in _LINK.finditer(_CODE.sub(lambda code: "`" * len(code[0]), line)):
            yield number, found[3]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, only those that are equal on GitHub and in mkdocs. Links to others would work in one of the two."""
    names: dict[str, int] = {}
    found = set()
    for _, line in prose(text):
        heading = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if heading is None:
            continue
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "").replace("*", "")
        github = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
        mkdocs = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())
        count = names[github] = names.get(github, -1) + 1
        if github == mkdocs and count == 0:
            found.add(github)
    return found


# --- pages made from the code -----------------------------------------------------------------------------------------------------------


def cell(text: str) -> str:
    """A text escaped for a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def commands() -> dict[str, argparse.ArgumentParser]:
    """Command → its parser, without commands that only group others ("keys create" is included, "keys" is not)."""
    from vectordb.cli import parsers

    found = parsers()
    if "bench run" not in found:  # the benchmark isn't installed; its folder is in the checkout
        sys.path.insert(0, str(ROOT))
        try:
            importlib.import_module("bench.cli").add_commands(found["bench"])
        finally:
            sys.path.remove(str(ROOT))
        found |= {f"bench {name}": made for name, made in _below(found["bench"]).items()}
    return {name: made for name, made in found.items() if not _below(made)}


def _below(made: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next((action.choices for action in made._actions if isinstance(action, argparse._SubParsersAction)), {})


def command_line() -> str:
    """The page on the command line."""
    from vectordb.server import settings

    flags = {f"--{name.replace('_', '-')}" for name in settings.NAMES}
    lines = [
        "# Command line",
        "",
        "<!-- Made by tools/docs.py from the parsers. -->",
        "",
        "A command names the database's directory first: `vectordb COMMAND DIR …`. `--data DIR` says the same. Answers go to standard",
        "output; progress and messages go to standard error. An error is one line that says what to write instead.",
        "",
        "| exit code | meaning |",
        "| --- | --- |",
        "| 0 | success |",
        "| 1 | an error, or problems were found |",
        "| 2 | the command line is wrong |",
        "| 130 | interrupted |",
        "",
        "The API key for a service is read from the environment variable `VECTORDB_API_KEY`. Other users of the machine can see flags.",
        "",
        "`VECTORDB_CACHE_DIR` names the folder of the compiled kernels. See [Install](../install.md#compiled-kernels).",
    ]
    for name, made in commands().items():
        usage = " ".join(made.format_usage().split()).removeprefix("usage: ")
        if name == "serve":
            usage = "vectordb serve DIR [options]"
        lines += ["", f"## vectordb {name}", "", cell((made.description or "").replace("\n", " ")), "", "```text", usage, "```"]
        rows = []
        for action in made._actions:
            if isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:
                continue
            if name == "serve" and set(action.option_strings) & flags:
                continue
            rows.append(f"| {_spelling(action)} | {cell(made._get_formatter()._expand_help(action)) if action.help else ''} |")
        if rows:
            lines += ["", "| argument | meaning |", "| --- | --- |", *rows]
        if name == "serve":
            lines += ["", "Every [setting](settings.md) is a flag too: `max_limit` is `--max-limit`."]
        if made.epilog:
            lines += ["", "```text", made.epilog.strip(), "```"]
    return "\n".join(lines) + "\n"


def _spelling(action: argparse.Action) -> str:
    metavar = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper())
    takes = "" if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction) else f" {metavar}"
    if action.option_strings:
        return ", ".join(f"`{option}{takes}`" for option in action.option_strings).replace("|", "\\|")
    return f"`{metavar}`"


def settings_page() -> str:
    """The page on the settings of ``vectordb serve``."""
    from vectordb.server import settings

    lines = [
        "# Settings of the service",
        "",
        "<!-- Made by tools/docs.py from vectordb/server/settings.py. -->",
        "",
        "`vectordb serve` reads each setting from a flag, an environment variable or a TOML file that `--config` names. A flag wins over",
        "the environment, and the environment over the file. An unknown name or a wrong value stops the start; the message names it.",
        "",
        "| the setting `max_limit` | is written |",
        "| --- | --- |",
        "| on the command line | `--max-limit 1000` |",
        "| in the environment | `VECTORDB_SERVE_MAX_LIMIT=1000` |",
        "| in the file | `max_limit = 1000` |",
        "",
        "A setting that is on or off is `--maintenance` or `--no-maintenance` on the command line, and `true` or `false` elsewhere.",
        "",
        "## All settings",
        "",
        settings.table(),
        "",
        "## Allowed values",
        "",
        "Values outside of these ranges are refused when the service starts.",
        "",
        "| setting | type | allowed |",
        "| --- | --- | --- |",
    ]
    for setting in dataclasses.fields(settings.Settings):
        about = setting.metadata
        words = {int: "integer", float: "number", bool: "true or false", str: "text"}[type(setting.default)]
        if about["choices"]:
            allowed = ", ".join(f"`{choice}`" for choice in about["choices"])
        elif about["least"] > -math.inf:
            allowed = f"{about['least']:,} or more" if about["most"] == math.inf else f"{about['least']:,} to {about['most']:,.15g}"
        else:
            allowed = "any"
        lines.append(f"| `{setting.name}` | {words} | {allowed} |")
    return "\n".join(lines) + "\n"


def operations_page() -> str:
    """docs/OPERATIONS.md with today's table of metrics."""
    from vectordb.server.telemetry import metrics

    text, table = (ROOT / "docs" / "OPERATIONS.md").read_text(), metrics.table()
    start = text.index("| metric | kind |")
    return text[:start] + table + text[text.index("\n\n", start) :]


PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/command-line.md": command_line,
    "docs/reference/settings.md": settings_page,
    "docs/OPERATIONS.md": operations_page,
}


# --- the site ---------------------------------------------------------------------------------------------------------------------------


def place(source: str) -> str | None:
    """The path in the site of a file of the repository, or None if the site doesn't have it. Paths are relative, with forward slashes."""
    if source in OUTSIDE:
        return OUTSIDE[source] if (ROOT / source).exists() else None
    if source.startswith("docs/"):
        return source.removeprefix("docs/")
    if re.fullmatch(r"bench/figures/[\w.-]+\.png", source):
        return source.replace("bench/", "benchmarks/")
    return None


def relink(text: str, source: str) -> str:
    """A document's text with its links rewritten for the site. A link to a file that the site lacks becomes plain text."""
    here = posixpath.dirname(place(source) or "")

    def change(found: re.Match) -> str:
        path, hash_, anchor = found[3].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return found[0]
        target = place(posixpath.normpath(posixpath.join(posixpath.dirname(source), path)))
        if target is None:
            return found[2]
        return f"{found[1]}[{found[2]}]({posixpath.relpath(target, here or '.')}{hash_}{anchor})"

    lines = text.splitlines()
    for number, line in prose(text):
        lines[number - 1] = _LINK.sub(change, line)
    return "\n".join(lines) + "\n"


def on_files(files, config):
    """mkdocs: add the documents and figures from outside docs/."""
    from mkdocs.structure.files import File

    for source, target in OUTSIDE.items():
        if (ROOT / source).exists():
            files.append(File.generated(config, target, content=relink((ROOT / source).read_text(), source)))
    for path in sorted((ROOT / "bench" / "figures").glob("*.png")):
        files.append(File.generated(config, f"benchmarks/figures/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """mkdocs: rewrite links that lead out of docs/."""
    source = page.file.src_uri
    return markdown if source in OUTSIDE.values() else relink(markdown, f"docs/{source}")


def main() -> None:
    for name, make in PAGES.items():
        path, text = ROOT / name, make()
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
