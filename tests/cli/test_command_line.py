"""All commands have the form ``vectordb COMMAND DIR …``, flags are equivalent, and usage errors are one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from vectordb_client.model.schema import Int, Schema

import vectordb
from vectordb.cli import main, parser, parsers

D, C, F = Path("d"), "c", "f.csv"
# the words, the flags of old, and what both mean
FORMS = [
    ("serve d", "serve --data d", {"data": D}),
    ("demo d", "demo --data d", {"data": D}),
    ("import d c f.csv", "import f.csv --data d --collection c", {"data": D, "collection": C, "file": Path(F)}),
    ("import d f.csv --collection c", "import --collection c f.csv --data d", {"data": D, "collection": C, "file": Path(F)}),
    ("import d --collection c f.csv", "import --data d f.csv --collection c", {"data": D, "collection": C, "file": Path(F)}),
    ("import --create d c f.csv", "import d c --create f.csv", {"data": D, "collection": C, "file": Path(F)}),
    ("export d c f.csv", "export --data d --collection c --out f.csv", {"data": D, "collection": C, "out": F}),
    ("export d --collection c f.csv", "export d --collection c --out f.csv", {"data": D, "collection": C, "out": F}),
    ("export d c o.csv", "export --data d --collection c o.csv", {"data": D, "collection": C, "out": "o.csv"}),
    ("export d c -", "export --data d c -", {"data": D, "collection": C, "out": "-"}),
    ("terms d c s --export -", "terms --data d --collection c s --export -", {"data": D, "collection": C, "field": "s"}),
    ("export d c -", "export d c --out -", {"data": D, "collection": C, "out": "-"}),
    (
        "terms d c s --export -",
        "terms --data d --collection c --field s --export -",
        {"data": D, "collection": C, "field": "s", "out": "-"},
    ),
    ("info d", "info --data d", {"data": D, "collection": None}),
    ("info d c", "info --data d --collection c", {"data": D, "collection": C}),
    ("optimize d c", "optimize --data d --collection c", {"data": D, "collection": C}),
    ("optimize d --timeout 3", "optimize --timeout 3 --data d", {"data": D, "collection": None, "timeout": 3.0}),
    ("check d", "check --data d", {"data": D}),
    ("drop d c", "drop --data d --collection c", {"data": D, "collection": C}),
    ("snapshot d to", "snapshot --data d to", {"data": D, "to": Path("to")}),
    ("snapshot d to --archive", "snapshot to --archive --data d", {"data": D, "to": Path("to"), "archive": True}),
    ("restore from d", "restore from --data d", {"source": Path("from"), "data": D}),
    ("purge d c", "purge --data d --collection c", {"data": D, "collection": C}),
    ("keys create d", "keys create --data d", {"data": D, "keys_file": None}),
    ("keys list d", "keys list --data d", {"data": D}),
    ("keys revoke d 12ab", "keys revoke 12ab --data d", {"data": D, "id": "12ab"}),
]


@pytest.mark.parametrize(("words", "flags", "meant"), FORMS)
def test_words_and_flags_say_the_same(words, flags, meant):
    by_words, by_flags = (parser().parse_args(line.split()) for line in (words, flags))
    assert {name: getattr(by_words, name) for name in meant} == meant
    assert {name: getattr(by_flags, name) for name in meant} == meant


@pytest.mark.parametrize("words", [words for words, *_ in FORMS if "d" in words.split()])
def test_a_directory_said_twice_is_taken_once_and_another_one_is_refused(words, capsys):
    assert parser().parse_args([*words.split(), "--data", "d"]).data == D
    assert refused(capsys, *words.split(), "--data", "other").count("'other'") == 1


@pytest.mark.parametrize("words", ["info d c", "optimize d c", "purge d c", "export d c f.csv", "import d c f.csv", "drop d c"])
def test_a_collection_said_twice_is_taken_once_and_another_one_is_refused(words, capsys):
    assert parser().parse_args([*words.split(), "--collection", "c"]).collection == C
    assert "'other'" in refused(capsys, *words.split(), "--collection", "other")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("nope", "nope"),
        ("check", "vectordb check DIR"),
        ("info", "--target HOST:PORT"),
        ("search d c", "TEXT or --vector"),
        ("search d c text --recall 2", "'2'"),
        ("search d c text --limit 0", "'0'"),
        ("search d c text --columns a,,b", "NAME,NAME"),
        ("search text", "COLLECTION TEXT…, or"),
        ("get d c", "vectordb get DIR COLLECTION ID"),
        ("get d c 1 --data d --target localhost:1", "vectordb get DIR COLLECTION ID"),
        ("count d", "vectordb count DIR COLLECTION, or"),
        ("count --target localhost:1", "--target HOST:PORT COLLECTION"),
        ("info d c --target localhost:1", "vectordb info DIR [COLLECTION], or"),
        ("optimize", "vectordb optimize DIR"),
        ("import f.csv", "vectordb import DIR"),
        ("import d f.csv", "vectordb import DIR COLLECTION"),
        ("import d c f.csv more", "more"),
        ("import d c f.csv --attribute price", "NAME=VALUE"),
        ("import d c f.csv --max-row-bytes 0", "'0'"),
        ("export d c", "vectordb export DIR COLLECTION FILE"),
        ("terms d c --export -", "vectordb terms DIR COLLECTION FIELD"),
        ("terms d c s", "--import --export"),
        ("drop d", "vectordb drop DIR COLLECTION"),
        ("keys", "ACTION"),
        ("keys create", "vectordb keys create DIR"),
        ("keys create d --keys-file f", "vectordb keys create DIR, or"),
        ("top", "--target"),
        ("check d --jsn", "--jsn"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(words, says, capsys):
    assert says in refused(capsys, *words.split())


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(words)
    out, said = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and said.count("\n") == 1 and "usage: vectordb" in said
    return said


def run(*words, **options):
    command = [sys.executable, "-m", "vectordb", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


@pytest.fixture
def data(tmp_path):
    with vectordb.open(tmp_path / "data") as database:
        collection = database.create_collection("docs", Schema({}, {"n": Int()}))
        collection.upsert(ids=list(range(10)), attributes={"n": list(range(10))})
    return tmp_path / "data"


@pytest.mark.parametrize(
    "words",
    ["check nothing", "info file", "export file docs x.csv", "purge nothing", "snapshot nothing x", "import nothing docs file",
     "drop file x", "optimize file", "restore nothing x", "terms nothing c s --export -", "import data docs folder",
     "import data docs file",
     "info data --collection nope", "drop data nope", "export data docs x.pdf", "export data docs none/x.csv",
     "import data docs in.csv --encoding latin1x", "import data docs in.csv --separator ::", "keys create nothing", "keys create file",
     "import data docs in.csv --create --attribute n=number", "import data docs in.csv --text n", "restore file x", "check empty"],
)  # fmt: skip
def test_what_a_user_gets_wrong_is_one_line_and_1(words, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "empty"):
        Path(folder).mkdir()
    Path("file").write_text("no database")
    Path("in.csv").write_text("id,n\n1,1\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(words.split()) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    if words != "check empty":
        lines = [line for line in said.err.splitlines() if "compiling" not in line]
        assert len(lines) == 1 and lines[0].startswith("vectordb: "), said
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "nothing is made"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_may_not_be_read_is_one_line_and_1(data, capsys):
    data.chmod(0)
    try:
        assert main(["info", str(data)]) == 1
    finally:
        data.chmod(0o700)
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("words", [("info",), ("export", "docs", "-"), ("check",)])
def test_a_full_disk_behind_stdout_is_one_line_and_1(words, data):
    command, *rest = words
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "vectordb", command, data, *rest], stdout=full, stderr=subprocess.PIPE, text=True)
    said = [line for line in done.stderr.splitlines() if "compiling" not in line]
    assert done.returncode == 1 and len(said) == 1 and "No space left" in said[0]


def test_a_terminal_without_the_letters_ends_no_command(data):
    done = run("info", data, env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr


def test_a_collection_is_dropped_by_name(data, capsys):
    assert main(["drop", str(data), "docs"]) == 0
    assert "10 points" in capsys.readouterr().err
    with vectordb.open(data) as database:
        assert database.collections() == []


def test_a_command_imports_only_its_own_module():
    code = (
        "import sys; from vectordb.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith(('hybrid_vectordb_bench', 'vectordb.cli.', 'numba', 'grpc', 'rich', 'lmdb'))))"
    )

    def imported(*words):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    assert imported("--help") == "['vectordb.cli.main', 'vectordb.cli.options']"
    assert imported("check", "--help") == "['vectordb.cli.check', 'vectordb.cli.main', 'vectordb.cli.options']"
    assert "hybrid_vectordb_bench.cli" in imported("bench", "--help")


def test_without_the_benchmark_its_command_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setattr("vectordb.cli.bench.entry_points", lambda **_: ())
    assert main(["bench", "--help"]) == 1
    assert "pip install ./bench" in capsys.readouterr().err


def test_parsers_lists_every_command_with_its_arguments():
    from vectordb.cli.main import COMMANDS

    found = parsers()
    assert set(COMMANDS) <= set(found) and {"keys create", "keys list", "keys revoke"} <= set(found)
    for name, command in found.items():
        assert command.prog == f"vectordb {name}" and command.description, name
        for action in command._actions:
            assert action.help or action.choices, f"{name}: {action.dest} has no help text"
    flags = {name: {flag for action in command._actions for flag in action.option_strings} for name, command in found.items()}
    assert {"--data", "--port", "--max-connections"} <= flags["serve"] and "--role" in flags["keys create"]


def test_every_command_has_help_that_says_its_form(capsys):
    from vectordb.cli.main import COMMANDS

    for command in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            parser().parse_args([command, "--help"])
        out = capsys.readouterr().out
        assert stop.value.code == 0 and out.startswith(f"usage: vectordb {command}")
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert "vectordb COMMAND DIR" in out and "2 a wrong command line" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("serch", "no command 'serch'; did you mean search? vectordb --help lists the commands"),
        ("xyzzy", "no command 'xyzzy'; vectordb --help lists the commands"),
        ("keys lst", "no action 'lst'; did you mean list? vectordb keys --help lists the actions"),
        ("search d c text --limt 5", "unknown option --limt; did you mean --limit?"),
        ("serve d --prot=7070", "unknown option --prot; did you mean --port?"),
        ("snapshot d", "too few arguments: write vectordb snapshot DIR TO ("),
        ("restore d", "too few arguments: write vectordb restore FROM DIR ("),
        ("import d c", "too few arguments: write vectordb import DIR COLLECTION FILE ("),
        ("completion", "write vectordb completion (bash | zsh | fish)"),
        ("health localhost:7171", "write vectordb health --target localhost:7171"),
    ],
)
def test_a_typo_or_a_missing_word_is_answered_by_what_to_write(words, says, capsys):
    assert says in refused(capsys, *words.split())


def test_without_a_command_the_help_is_printed_and_the_exit_code_is_2(capsys):
    assert main([]) == 2
    out, said = capsys.readouterr()
    assert out == "" and "commands:" in said and "serve a directory" in said


@pytest.mark.parametrize("words", ["help", "help search", "help keys list"])
def test_help_is_a_command_too(words, capsys):
    outputs = []
    for line in (words.split(), [*words.split()[1:], "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(line)
        assert stop.value.code == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != ""


def test_an_address_in_place_of_a_directory_is_answered_by_target(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in ("info localhost:7171", "search [::1]:7171 docs text", "count db.example.com:7171 docs"):
        assert main(words.split()) == 1
        assert f"write --target {words.split()[1]}" in capsys.readouterr().err
    assert main(["optimize", "localhost:7171"]) == 1
    assert "address of a service, but the command works on a directory" in capsys.readouterr().err


def test_a_column_that_is_no_attribute_is_named_as_the_option_is(data, capsys):
    for words in (["get", str(data), "docs", "1"], ["search", str(data), "docs", "x"]):
        assert main([*words, "--columns", "nn"]) == 1
        assert "--columns: no attribute 'nn'; did you mean n? Attributes: n" in capsys.readouterr().err


def test_an_import_counts_rows_and_points(tmp_path, capsys):
    (tmp_path / "in.csv").write_text("id,n\n1,1\n1,2\n")
    assert main(["import", "--create", str(tmp_path / "d"), "c", str(tmp_path / "in.csv")]) == 0
    assert "imported 2 rows into 'c'; it now has 1 point\n" in capsys.readouterr().err


def test_an_export_to_a_missing_folder_names_the_folder(data, tmp_path, capsys):
    assert main(["export", str(data), "docs", str(tmp_path / "none" / "x.csv")]) == 1
    assert f"no folder {tmp_path / 'none'} to write x.csv in" in capsys.readouterr().err


def test_a_path_through_a_file_is_refused_with_the_reason(tmp_path, capsys):
    (tmp_path / "in.csv").write_text("id,n\n1,2\n")
    place = tmp_path / "in.csv" / "db"
    assert main(["import", "--create", str(place), "c", str(tmp_path / "in.csv")]) == 1
    err = capsys.readouterr().err
    assert f"vectordb: {place}: " in err and "is a file, not a directory; choose a path" in err
