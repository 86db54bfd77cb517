"""The settings of a service: their sources, which source wins, and which values are refused."""

import argparse
import dataclasses

import pytest
from vectordb_client.errors import InvalidArgumentError

from vectordb.server.settings import NAMES, Settings, add_arguments, gather, table


def flags(*words) -> dict:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return vars(parser.parse_args(words))


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('host = "::1"\nthreads = 2\nport = 1\ngrace = 3\nmaintenance = false\n')
    environment = {"VECTORDB_SERVE_PORT": "2", "VECTORDB_SERVE_THREADS": "3", "VECTORDB_SERVE_MAINTENANCE": "Yes", "VECTORDB_OTHER": "x"}
    assert gather({}, {}) == Settings()
    assert gather({}, {}, file) == Settings(host="::1", threads=2, port=1, grace=3.0, maintenance=False)
    assert gather({}, environment, file) == Settings(host="::1", threads=3, port=2, grace=3.0, maintenance=True)
    assert gather(flags("--port", "3", "--no-maintenance"), environment, file).port == 3


def test_every_setting_is_a_flag_and_a_row_of_the_table():
    for setting in dataclasses.fields(Settings):
        value = setting.default
        flag = "--" + setting.name.replace("_", "-")
        words = [flag] if isinstance(value, bool) else [flag, str(value)]
        assert type(flags(*words)[setting.name]) is type(value)
        assert f"| `{setting.name}` |" in table() and setting.metadata["about"] in table()
    assert flags() == {} and set(NAMES) == {setting.name for setting in dataclasses.fields(Settings)}


@pytest.mark.parametrize(
    "name, value",
    [
        ("host", 7),
        ("host", ""),
        ("port", -1),
        ("port", 65_536),
        ("port", True),
        ("port", "7070"),
        ("threads", 0),
        ("threads", 2.0),
        ("max_message_bytes", 1),
        ("durability", "maybe"),
        ("maintenance", 1),
        ("grace", -0.1),
        ("grace", float("nan")),
        ("grace", float("inf")),
    ],
)
def test_a_wrong_value_is_refused_by_name(name, value):
    with pytest.raises(InvalidArgumentError, match=name) as caught:
        Settings(**{name: value})
    assert caught.value.field == name


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="VECTORDB_SERVE_PORT") as caught:
        gather({}, {"VECTORDB_SERVE_PORT": "many"})
    assert (caught.value.field, caught.value.value) == ("port", "many")
    with pytest.raises(InvalidArgumentError, match="not a setting"):
        gather({}, {"VECTORDB_SERVE_PROT": "1"})
    for text, words in ((b"prot = 1", "not a setting"), (b"port = ", "not TOML"), (b"\xff", "not TOML"), (b'port = "1"', "an integer")):
        (tmp_path / "f").write_bytes(text)
        with pytest.raises(InvalidArgumentError, match=words):
            gather({}, {}, tmp_path / "f")
    with pytest.raises(InvalidArgumentError, match="can't be read"):
        gather({}, {}, tmp_path / "none")
