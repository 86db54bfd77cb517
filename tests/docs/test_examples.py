"""The scripts in examples/ run as they are, in an empty folder, and leave nothing there."""

import re
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
# What a script prints when it did what it shows.
SAYS = {
    "ask_documents.py": r"\[1\] shutil\.copy",
    "follow_changes.py": r"^equal$",
    "many_clients.py": r"5,000 points written, 500 searches",
    "measure_recall.py": r"^  1\.0   1\.0000 ",
    "search_notes.py": r"2 written, 0 deleted\n.*garden\.md",
    "shop.py": r"3 sold, 0 left",
}


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.name for script in SCRIPTS])
def test_an_example_runs_and_shows_what_it_is_about(script, tmp_path):
    ran = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert re.search(SAYS[script.name], ran.stdout, re.MULTILINE), ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_notes_follow_their_files(tmp_path):
    (tmp_path / "a.txt").write_text("The ferry leaves at noon.")
    (tmp_path / "b.md").write_text("Bring bread.")

    def search(*words):
        command = [sys.executable, str(EXAMPLES / "search_notes.py"), str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert re.search(r"2 written, 0 deleted\n.*a\.txt", search("ferries"))
    (tmp_path / "a.txt").unlink()
    assert search("ferries") == "0 written, 1 deleted\n"


def test_the_readme_lists_every_example():
    listed = set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text()))
    assert listed == {script.name for script in SCRIPTS} == set(SAYS)
