"""Compiled kernels are kept in archives and folders: what fits is loaded, everything else is compiled, and no answer depends on which."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.paths import ROOT
from vectordb.kernels import ahead, build, internals, jit, planner, signatures, store, tiers, topk
from vectordb.kernels.progress import Lines, Progress

LIGHT = ("topk.pack", "topk.unpack", "dense.hold")
needs_x86 = pytest.mark.skipif(not tiers.tiers_of_host(), reason="archives are for x86-64-v3 and later, and numba as it is by default")
# Sorts two keys in another process, once for each line (a folder of archives, a folder for kernels) that it reads: prints what it loaded,
# what it compiled, the answer, and whether it looked for a folder. A fork for each, so that numba is imported once.
SORTED = """
import json, os, sys
from pathlib import Path
import numpy as np
import numba
from vectordb.kernels import jit, store, topk
jit.watch.on_miss = lambda name: False  # this kernel alone
numba.njit(lambda x: x)(1)  # what numba does once before it compiles anything
for line in sys.stdin:
    if os.fork():
        if os.wait()[1]:
            print(json.dumps("it crashed"), flush=True)
        continue
    archives, cache = json.loads(line)
    if cache:
        os.environ["VECTORDB_CACHE_DIR"] = cache
    store.ARCHIVES = Path(archives)
    docids, scores = np.empty(2, np.int64), np.empty(2, np.float32)
    topk.unpack(np.array([(1 << 32) | 5, (2 << 32) | 9]), docids, scores)
    folder = store._found.cache_info().currsize
    print(json.dumps([jit.watch.loaded, jit.watch.compiled, docids.tolist(), folder]), flush=True)
    os._exit(0)
"""
ANSWER = [0xFFFFFFFF - 9, 0xFFFFFFFF - 5]


def light() -> list[signatures.Signature]:
    return [each for each in signatures.recorded().values() if each.kernel in LIGHT]


def environment(cache: Path | None = None) -> dict[str, str]:
    """Of a process with a folder for kernels; without one it has no home and no folder for temporary files either."""
    given = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "VECTORDB_CACHE_DIR")}
    given |= {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    return given | ({"TMPDIR": "/nowhere", "HOME": ""} if cache is None else {"VECTORDB_CACHE_DIR": str(cache)})


def apart(code: str, cache: Path | None = None, lines: str = "") -> subprocess.CompletedProcess:
    """Run code in another process that reads ``lines``."""
    return subprocess.run([sys.executable, "-c", code], env=environment(cache), input=lines, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def sorter():
    """From a folder of archives and one for kernels, to what ``SORTED`` prints."""
    with subprocess.Popen(
        [sys.executable, "-c", SORTED], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def ask(archives: Path, cache: Path) -> list:
            process.stdin.write(json.dumps([str(archives), str(cache)]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield ask
        process.stdin.close()


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """An archive of light kernels for this machine."""
    return build.build(tiers.tiers_of_host()[0], tmp_path_factory.mktemp("archives"), light()).path


def test_this_numba_has_what_archives_need():
    """When it fails, numba has changed: docs/KERNELS.md says what to do. Until then kernels are compiled by numba in each process."""
    assert internals.missing() is None


def test_kernels_work_with_a_numba_that_lacks_it(tmp_path):
    code = (
        "from vectordb.kernels import internals\n"
        "internals.missing = lambda: 'Dispatcher._cache'\n"
        "import numpy as np\nfrom vectordb.kernels import jit, topk, bitset\n"
        "docids, scores = np.empty(1, np.int64), np.empty(1, np.float32)\n"
        "topk.unpack(np.array([5]), docids, scores)\n"
        "print(docids[0], topk.row_of(5), jit.watch.compiled > 0)\n"
    )
    done = apart(code, cache=tmp_path)
    assert done.stdout.split() == [str(0xFFFFFFFF - 5), str(0xFFFFFFFF - 5), "True"], done.stderr[-3000:]
    assert not list(tmp_path.rglob("*.kernel"))


@needs_x86
def test_an_archive_is_all_that_is_needed(archive):
    """No home, no folder to write to: nothing is compiled, and no folder was looked for."""
    done = apart(SORTED, lines=json.dumps([str(archive.parent), None]))
    assert json.loads(done.stdout) == [1, 0, ANSWER, 0], done.stderr[-3000:]


@needs_x86
def test_what_an_archive_lacks_is_compiled(sorter, tmp_path):
    folder = tmp_path / "archives"
    build.build(tiers.tiers_of_host()[0], folder, [each for each in light() if each.kernel == "dense.hold"])
    loaded, compiled, answer, _ = sorter(folder, tmp_path / "cache")
    assert answer == ANSWER and compiled > 0 and loaded == 0


@needs_x86
def test_an_archive_made_for_something_else_is_not_used(archive, sorter, tmp_path):
    key = tiers.key_of_tier(tiers.tiers_of_host()[0])
    whole = store.Archive(archive, {})
    pieces = {each.name(): whole.get(each.name()) for each in light()}
    for field in ("python", "machine", "numba", "llvmlite", "sources", "tier"):
        store.write_archive(tmp_path / archive.name, key | {field: "another"}, pieces)
        with pytest.raises(store.Unusable, match=f"made for {field} another; this is"):
            store.Archive(tmp_path / archive.name, key)
    loaded, compiled, answer, _ = sorter(tmp_path, tmp_path / "cache")  # of the last of them
    assert answer == ANSWER and compiled > 0 and loaded == 0


@needs_x86
@pytest.mark.parametrize("damage", ["empty", "short", "head", "pieces", "cut", "zeros"])
def test_a_damaged_archive_is_not_used(archive, sorter, tmp_path, damage):
    data = bytearray(archive.read_bytes())
    head = 16 + int.from_bytes(data[8:12], "little")
    if damage == "head":
        data[20] ^= 1
    elif damage == "pieces":
        data[head:] = bytes(byte ^ 1 for byte in data[head:])
    elif damage == "zeros":
        data[head:] = bytes(len(data) - head)
    else:
        data = data[: {"empty": 0, "short": 10, "cut": head + 100}[damage]]
    (tmp_path / archive.name).write_bytes(data)
    loaded, compiled, answer, _ = sorter(tmp_path, tmp_path / "cache")
    assert answer == ANSWER and compiled > 0 and loaded == 0


@needs_x86
def test_pieces_that_cannot_be_unpickled_are_compiled(archive, sorter, tmp_path):
    key = tiers.key_of_tier(tiers.tiers_of_host()[0])
    store.write_archive(tmp_path / archive.name, key, {each.name(): b"no pickle" for each in light()})
    loaded, compiled, answer, _ = sorter(tmp_path, tmp_path / "cache")
    assert answer == ANSWER and compiled > 0 and loaded == 0


@pytest.mark.parametrize("tier", tiers.TIERS)
def test_each_tier_is_compiled_on_any_machine(tier, tmp_path):
    if "x86_64" not in tiers.machine_tag():
        pytest.skip("LLVM here makes code for this machine's family of processors only")
    some = [each for each in light() if each.kernel == "topk.unpack"]
    made = build.build(tier, tmp_path, some)
    held = store.Archive(made.path, tiers.key_of_tier(tier))
    assert made.kernels == len(held) == len(some) and all(held.get(each.name()) for each in some)


def test_a_host_takes_tiers_that_it_can_run(monkeypatch):
    def tiers_with(*tier_names: str, **more: bool) -> list[str]:
        have = {feature: True for name in tier_names for feature in tiers.TIERS[name].features} | more
        monkeypatch.setattr(tiers, "_host_features", lambda: have)
        return tiers.tiers_of_host()

    monkeypatch.setattr(tiers.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("VECTORDB_PLAIN_KERNELS", raising=False)
    assert tiers_with("v4-vpopcnt") == ["v4-vpopcnt", "v4-vnni"]
    assert tiers_with("v4-vnni") == ["v4-vnni"]
    assert tiers_with("v3") == ["v3"]
    assert tiers_with("v3", avx512f=True, avx512bw=True) == ["v3"]  # Skylake's servers: no VNNI
    assert tiers_with("v3", fma=False) == []
    monkeypatch.setenv("VECTORDB_PLAIN_KERNELS", "1")
    assert tiers_with("v4-vpopcnt") == ["v3"]  # the plain dot product is v3's
    monkeypatch.delenv("VECTORDB_PLAIN_KERNELS")
    monkeypatch.setattr(tiers.config, "CPU_NAME", "generic")
    assert tiers_with("v4-vpopcnt") == []
    monkeypatch.undo()
    monkeypatch.setattr(tiers.platform, "machine", lambda: "aarch64")
    assert tiers.tiers_of_host() == []


def test_a_damaged_piece_of_a_folder_is_not_there(tmp_path):
    folder = store.Folder(tmp_path / "made" / "when needed")
    assert folder.get("a") is None and "a" not in folder and not folder.path.parent.exists()
    folder.put("a", b"code" * 100)
    (file,) = folder.path.iterdir()
    whole = file.read_bytes()
    assert folder.get("a") == b"code" * 100 and "a" in folder and folder.size() == len(whole)
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert folder.get("a") is None, at
        file.write_bytes(whole[:at])
        assert folder.get("a") is None, at
    folder.put("b", b"other")
    (other,) = set(folder.path.iterdir()) - {file}
    file.write_bytes(other.read_bytes())  # the code of another kernel under its name
    assert folder.get("a") is None


def test_a_change_of_one_file_leaves_the_code_of_the_others(tmp_path):
    """Of a digest for each file: it changes with the file, with what that imports, and with what others import of it."""
    files = {
        "__init__": "A = 1",
        "base": "from . import A\n",
        "user": "from .base import (\n    one,\n)\n",
        "other": "from . import base\n",
    }

    def digests(**changed: str) -> dict[str, str]:
        for name, text in (files | changed).items():
            (tmp_path / f"{name}.py").write_text(text)
        return tiers.digests_of_modules(tmp_path)

    def changed(**changes: str) -> set[str]:
        return {name for name, digest in digests(**changes).items() if before.get(name) != digest}

    before = digests()
    assert changed() == set()
    assert changed(other="from . import base  # and a comment\n") == {"other"}
    assert changed(base="from . import A\nx = 1\n") == {"base", "user", "other"}
    assert changed(__init__="A = 2") == set(files)
    assert changed(other="from .base import two\n") == {"base", "user", "other"}
    assert changed(new="from .base import one\n") == {"new"}
    assert tiers.sources_of("topk") != tiers.sources_of("bitset") and tiers.sources_of("nothing") == ""


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_code_that_cannot_be_kept_is_used(problem, tmp_path, monkeypatch):
    def put(self, name, piece):
        raise OSError(problem, os.strerror(problem))

    monkeypatch.setattr(store, "_chosen", store.Folder(tmp_path))
    monkeypatch.setattr(store.Folder, "put", put)
    monkeypatch.setattr(jit.watch, "on_miss", lambda name: False)

    @jit.kernel
    def doubled(x):
        return 2 * x

    assert doubled(21) == 42 and list(tmp_path.iterdir()) == []


def test_numba_is_loaded_whole_only_for_code_that_calls_what_is_not_there_yet(tmp_path, monkeypatch):
    """That takes half a second of imports; without it such code would end the process."""
    monkeypatch.setattr(store, "_chosen", store.Folder(tmp_path))
    monkeypatch.setattr(jit.watch, "on_miss", lambda name: False)

    @jit.kernel
    def ones(n):
        return np.ones(n)

    assert ones(3).tolist() == [1, 1, 1]
    (name,) = (jit.name_of(ones._cache._kernel, arguments) for arguments in ones.overloads)
    context, loaded = ones.targetctx, []
    monkeypatch.setattr(context, "refresh", lambda: loaded.append(1))
    for there in (True, False):
        with monkeypatch.context() as patch:
            if not there:
                patch.setattr(internals.binding, "address_of_symbol", lambda symbol: None)
            read = internals.from_bytes(context, store.Folder(tmp_path).get(name))
        assert read.entry_point(4).tolist() == [1, 1, 1, 1] and loaded == [1] * (not there)


def test_a_kernel_is_compiled_once_for_a_literal_and_a_variable(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_chosen", store.Folder(tmp_path))  # an earlier run may have kept it elsewhere

    @jit.inner
    def added(x, flag):
        return x + 1 if flag else x

    @jit.kernel
    def called(x):
        return added(x, True) + added(7, False) + added(0, x > 2)

    assert called(3) == 3 + 1 + 7 + 0 + 1
    assert len(added.overloads) == 1


def test_a_kernel_that_only_kernels_call_answers_python_as_well():
    assert topk.row_of(np.int64(0xFFFFFFFF - 3)) == 3
    assert topk.row_of in jit.called_by_kernels() and planner.setting_of in jit.called_by_kernels()
    assert topk.unpack not in jit.called_by_kernels()


def test_no_kernel_that_python_calls_lacks_a_wrapper():
    for each in signatures.recorded().values():
        assert not each.dispatcher().targetoptions.get("no_cpython_wrapper"), each.kernel


def test_types_are_written_and_read_back():
    for each in signatures.read():
        assert tuple(map(signatures.text_of, each.arguments())) == each.types
    for text in ("float99", "int64[1Z]", "uint8[]", "Dispatcher", ""):
        with pytest.raises(ValueError, match="no type of a kernel's argument"):
            signatures.type_of(text)


def test_the_list_of_signatures_is_what_the_package_calls():
    """Otherwise something is compiled at a first search or a first index although kernels came compiled."""
    done = subprocess.run([sys.executable, ROOT / "tools" / "kernels.py", "check"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


CODE = """
import sys
from vectordb.kernels import ahead, jit, signatures
wanted = [each for each in signatures.recorded().values() if each.kernel in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.readline()
ahead.compile_missing(wanted)
for each in wanted:
    each.dispatcher().compile(each.arguments())
print(jit.watch.compiled, jit.watch.loaded, len(ahead.missing(wanted)), flush=True)
"""


def beginning(cache: Path, *kernels: str) -> subprocess.Popen:
    """A process that is about to compile."""
    given = os.environ | {"VECTORDB_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *kernels], env=given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_several_processes_at_once_compile_each_kernel_once(tmp_path, monkeypatch):
    if store.shipped()[0] is not None:
        pytest.skip("kernels came compiled")
    processes = [beginning(tmp_path, *LIGHT) for _ in range(2)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-3000:]
        answers.append(list(map(int, out.split())))
    count = len(light())
    assert sorted(answers) == [[0, count, 0], [count, count, 0]]


def test_a_process_killed_half_way_leaves_what_the_next_goes_on_from(tmp_path):
    if store.shipped()[0] is not None:
        pytest.skip("kernels came compiled")
    killed = beginning(tmp_path, *LIGHT)
    killed.stdin.write("go\n")
    killed.stdin.flush()
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("*.kernel")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    again = beginning(tmp_path, *LIGHT)
    out, err = again.communicate("go\n", timeout=300)
    assert again.returncode == 0 and out.split()[2] == "0", err[-3000:]
    assert not list(tmp_path.rglob("*.part"))


def test_processes_that_cannot_keep_anything_leave_it_to_this_one(tmp_path, monkeypatch, capsys):
    if store.shipped()[0] is not None:
        pytest.skip("kernels came compiled")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(store, "_chosen", store.Folder(tmp_path / "file" / "kernels"))
    monkeypatch.setattr(ahead, "_said", set())
    assert ahead.compile_missing(light()) == 0
    assert "can't be kept in" in capsys.readouterr().err
    outcome = ahead.run(ahead.Job(light(), tmp_path / "file" / "kernels"), Progress())
    assert outcome.compiled == 0 and "nothing can be written" in outcome.problems[0]


@pytest.mark.parametrize("executable", ["", "/usr/sbin/uwsgi"])
def test_a_program_that_embeds_python_compiles_in_its_own_process(executable, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store, "_chosen", store.Folder(tmp_path))
    monkeypatch.setattr(store, "shipped", lambda: (None, ""))
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(ahead, "_said", set())
    assert ahead.compile_missing(light()) == 0
    assert capsys.readouterr().err == f"vectordb: compiling {len(light())} search kernels for this processor, for this process alone\n"


def test_progress_is_told_in_lines_where_nobody_sees_a_bar(tmp_path, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Lines(4, 2, 10.0, tmp_path) as progress:
        for _ in range(4):
            now[0] += 6
            progress.tick()
            progress.done(5.0)
    assert capsys.readouterr().err.splitlines() == [
        f"vectordb: compiling 4 search kernels for this processor in 2 processes, about 10 s; they are kept in {tmp_path}",
        "vectordb: 1 of 4 search kernels are compiled, about 36 s left",
        "vectordb: 3 of 4 search kernels are compiled, about 8 s left",
        "vectordb: compiled 4 search kernels in 24.0 s",
    ]


def test_warm_says_what_was_done(capsys):
    from vectordb.cli import main
    from vectordb.warm import warm

    warm()
    assert main(["warm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"nothing to compile: {len(signatures.recorded())} search kernels loaded in ")
    assert lines[1].startswith(("no compiled kernels came", "the kernels that came"))


SERVED = """
import sys
import numpy as np
import vectordb
from vectordb import Dense, Int, Linear, MultiVector, Prefetch, Schema, Sparse, Text
from vectordb.kernels import jit
from vectordb.kernels.signatures import recorded
from vectordb.server.main import start
from vectordb_client import Client

unforeseen = []
jit.watch.asked = lambda kernel, types: jit.name_of(kernel, types) in recorded() or unforeseen.append(jit.name_of(kernel, types))
fields = {"d": Dense(8), "s": Sparse(), "t": Sparse(encoder="bm25", source="body"), "m": MultiVector(4)}
schema = Schema(fields, {"body": Text(), "n": Int()})
with vectordb.open(sys.argv[1], maintenance=False) as database:
    server, port = start(database, port=0)
    with Client(f"localhost:{port}") as client:
        docs = client.create_collection("docs", schema)
        rng = np.random.default_rng(0)
        rows, sets = rng.standard_normal((200, 8)), [{int(t): 1.0 for t in rng.choice(20, 4, replace=False)} for _ in range(200)]
        attributes = {"body": ["a cat", "two dogs"] * 100, "n": list(range(200))}
        vectors = {"d": rows, "s": sets, "m": [rng.standard_normal((2, 4)) for _ in range(200)]}
        docs.upsert(ids=range(200), vectors=vectors, attributes=attributes)
        for index in (False, True):
            if index:
                database["docs"].optimize()
            for query in ({"d": rows[0]}, {"s": {3: 1.0}}, {"m": np.ones((3, 4))}, {"d": rows[0], "s": {3: 1.0}}):
                for options in ({}, {"exact": True}, {"filter": "n > 20"}, {"prefetch": Prefetch({"s": {3: 1.0}})}):
                    docs.search(query, limit=5, **options)
            docs.search(text="cat", limit=5)
            docs.search({"d": rows[0], "s": {3: 1.0}}, fusion=Linear())
            docs.search_batch({"d": rows[:3]})
    server.stop(0).wait()
print(unforeseen)
"""


def test_a_service_calls_kernels_with_the_types_of_the_list(tmp_path):
    """The vectors of a message are read-only arrays; numba would compile every kernel once more for them."""
    ran = subprocess.run([sys.executable, "-c", SERVED, str(tmp_path / "data")], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.splitlines()[-1] == "[]"
