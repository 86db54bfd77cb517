"""No dead links: every link in a Markdown file of the repository leads to a file and a heading that exist. Nothing is fetched."""

from __future__ import annotations

import importlib.util
import posixpath
import re
import subprocess
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.paths import ROOT

_spec = importlib.util.spec_from_file_location("docs_tool", ROOT / "tools" / "docs.py")
docs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(docs)


def _documents() -> list[str]:
    folders = [ROOT, *(ROOT / name for name in ("docs", "client", "bench", ".github", "deploy", "examples"))]
    found = [path for folder in folders[:1] for path in folder.glob("*.md")]
    found += [path for folder in folders[1:] for path in folder.rglob("*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


DOCUMENTS = _documents()


def dead(source: str, text: str) -> list[str]:
    """What is wrong with the links of a document, a line each."""
    problems = []
    for number, link in docs.links(text):
        where = f"{source}:{number}: {link}"
        parts = urlsplit(link)
        if parts.scheme:
            if parts.scheme == "mailto":
                good = re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]+", parts.path)
            else:
                good = parts.scheme == "https" and re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc)
            if not good:
                problems.append(f"{where} is not an https address")
            continue
        if link.startswith("/") or "\\" in link:
            problems.append(f"{where} must be relative, with forward slashes")
            continue
        path, _, anchor = unquote(link).partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path)) if path else source
        if target != source and (target.startswith("..") or not (ROOT / target).exists()):
            problems.append(f"{where} leads to no file")
        elif anchor:
            page = text if target == source else (ROOT / target).read_text()
            if not target.endswith(".md") or (anchor not in docs.anchors(page) and f":: {anchor}" not in page):
                problems.append(f"{where} leads to no heading")
    return problems


@pytest.mark.parametrize("source", DOCUMENTS)
def test_every_link_leads_somewhere(source):
    assert dead(source, (ROOT / source).read_text()) == []


def test_dead_links_are_found():
    text = "\n".join(
        [
            "[a](README.md) [b](NO.md) ![c](bench/figures/none.png) [d](#a-heading) [e](#no-heading) `[f](code.md)`",
            "## A heading",
            "```",
            "[g](fenced.md)",
            "```",
            "[h](http://example.org/) [i](https://example.org/x) [j](/etc/passwd) [k](../outside.md) [l](https://localhost/)",
        ]
    )
    found = [re.search(r": (\S+)", line)[1] for line in dead("X.md", text)]
    assert found == [
        "NO.md",
        "bench/figures/none.png",
        "#no-heading",
        "http://example.org/",
        "/etc/passwd",
        "../outside.md",
        "https://localhost/",
    ]


def test_every_page_of_the_site_can_be_reached_from_the_navigation():
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    outside = {target for source, target in docs.OUTSIDE.items() if (ROOT / source).exists()}
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages | outside == listed


def test_nothing_that_git_ignores_is_linked():
    ignored = subprocess.run(["git", "ls-files", "-oi", "--exclude-standard", "--directory"], cwd=ROOT, capture_output=True, text=True)
    if ignored.returncode:
        pytest.skip("not a git checkout")
    folders = set(ignored.stdout.split())
    for source in DOCUMENTS:
        for _, link in docs.links((ROOT / source).read_text()):
            path = link.partition("#")[0]
            if path and not urlsplit(link).scheme:
                target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
                assert not any(target.startswith(folder) for folder in folders), f"{source}: {link}"
