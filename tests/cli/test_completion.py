"""``vectordb completion``: the scripts complete commands, flags, choices and files in the shells that are installed."""

import shutil
import subprocess

import pytest

from vectordb.cli import main, parsers
from vectordb.cli.completion import SHELLS


@pytest.fixture
def script(capsys, tmp_path):
    def script(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / f"completion.{shell}"
        path.write_text(capsys.readouterr().out)
        return path

    return script


def needs(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")


# the line so far → some of the words that complete it
COMPLETED = [
    (["s"], {"search", "serve", "snapshot"}),
    (["nothing-like-it"], set()),
    (["keys", ""], {"create", "list", "revoke"}),
    (["keys", "create", "--ro"], {"--role"}),
    (["keys", "create", "--role", ""], {"read", "write", "admin"}),
    (["search", "data", "docs", "--ex"], {"--exact", "--explain"}),
    (["serve", "--log-level", ""], {"debug", "info", "warning", "error"}),
    (["completion", ""], set(SHELLS)),
    (["check", "my-da"], {"my-data"}),
    (["search", "--tls-ca", "my-"], {"my-data"}),
    (["count", "--filter", ""], set()),
]


@needs("bash")
@pytest.mark.parametrize(("words", "found"), COMPLETED, ids=[" ".join(words) for words, _ in COMPLETED])
def test_bash_completes(words, found, script, tmp_path):
    (tmp_path / "my-data").mkdir()
    code = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vectordb; printf "%s\\n" "${COMPREPLY[@]}"'
    words = ["bash", "-c", code, "bash", script("bash"), "vectordb", *words]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == ""
    assert set(done.stdout.split()) == found


@needs("fish")
@pytest.mark.parametrize(("words", "found"), COMPLETED[:-1], ids=[" ".join(words) for words, _ in COMPLETED[:-1]])
def test_fish_completes(words, found, script, tmp_path):
    (tmp_path / "my-data").mkdir()
    code = f"source {script('fish')}; complete -C 'vectordb {' '.join(words)}'"
    done = subprocess.run(["fish", "-N", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {line.split("\t")[0].rstrip("/") for line in done.stdout.splitlines()} == found


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_valid_and_names_every_command_and_flag(shell, script):
    path = script(shell)
    text = path.read_text()
    for name, command in parsers().items():
        assert name.split()[-1] in text
        for action in command._actions:
            for flag in action.option_strings:
                assert (f"-l {flag[2:]}" if shell == "fish" and flag.startswith("--") else flag) in text, flag
    if shutil.which(shell) is not None:
        assert subprocess.run([shell, "-n", str(path)], capture_output=True, timeout=300).returncode == 0
