"""A server's file says what to serve; what cannot be in it is named."""

import re
import socket
from pathlib import Path

import msgspec
import pytest

from orchestra.errors import BadConfig
from orchestra.http.config import (
    EXAMPLE,
    ApplicationConfig,
    ServeConfig,
    check_serve_config,
    load_serve_config,
)
from orchestra.http.server import address_of, listening
from orchestra.machine import Limits, MachineConfig
from orchestra.sched.settings import ApplicationSettings
from tests.guests import LEDGER

WHOLE = f"""
listen = "127.0.0.1:0"
workers = 3
loop = "trio"
token_file = "token"
public_inspect = true
max_body = "64KiB"

[applications.ledger]
directory = "app"
genesis = "ledger.toml"
snapshots = 100
keep = 2
durable = false
weight = 2.5
limits = {{ max_cycles = 1000000 }}

[applications.other]
directory = "/var/lib/other"
snapshots = "never"
# {LEDGER}
"""


def write(folder, text):
    (folder / "token").write_text("a secret\n")
    (folder / "empty").write_text("\n")
    (folder / "ledger.toml").write_text(f'[boot]\nelf = "{LEDGER}"\n')
    path = folder / "node.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path):
    config = load_serve_config(write(tmp_path, WHOLE))
    assert (config.listen, config.workers, config.loop) == ("127.0.0.1:0", 3, "trio")
    assert (config.token, config.public_inspect, config.max_body) == ("a secret", True, 65536)
    ledger, other = config.applications["ledger"], config.applications["other"]
    assert ledger.directory == tmp_path / "app"
    assert isinstance(ledger.load_genesis(), MachineConfig)
    assert (ledger.settings.snapshots, ledger.settings.weight) == (100, 2.5)
    assert ledger.settings.limits.max_cycles == 1_000_000
    assert (other.directory, other.load_genesis()) == (Path("/var/lib/other"), None)
    assert other.settings == ApplicationSettings(snapshots="never")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("listen = ", "node.toml"),
        ("workers = 2", "applications"),
        ("[applications.a]\nsnapshots = 1", "applications.a"),
        ('[applications.a]\ndirectory = "a"\nsnapshots = "often"', "applications.a.snapshots"),
        ('[applications.a]\ndirectory = "a"\nkeep = 0', "applications.a.keep"),
        ('workers = 0\n[applications.a]\ndirectory = "a"', "workers"),
        ('max_body = "lots"\n[applications.a]\ndirectory = "a"', "max_body"),
        ('loop = "curio"\n[applications.a]\ndirectory = "a"', "loop"),
        ('[applications.a]\ndirectory = "a"\nspeed = 9', "applications.a.speed"),
        ('[applications.a]\ndirectory = "a"\nlimits = {max_cycle = 9}', "a.limits.max_cycle"),
        ('[applications."a b"]\ndirectory = "a"', "a name of letters"),
        ('[applications.a]\ndirectory = "a"\n[applications.b]\ndirectory = "./a"', "b.directory"),
        ('token_file = "empty"\n[applications.a]\ndirectory = "a"', "token_file"),
        ('token_file = "none"\n[applications.a]\ndirectory = "a"', "token_file"),
        ('token = ""\n[applications.a]\ndirectory = "a"', "token"),
        ('max_body = -1\n[applications.a]\ndirectory = "a"', "max_body"),
        ('listen = "h:70000"\n[applications.a]\ndirectory = "a"', "listen"),
        ('color = 1\n[applications.a]\ndirectory = "a"', "config"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, text, field):
    with pytest.raises(BadConfig) as refused:
        load_serve_config(write(tmp_path, text))
    assert field in str(refused.value)
    assert "node.toml" in str(refused.value)


def test_the_example_says_of_every_key_what_it_is_and_its_default(tmp_path):
    text = EXAMPLE.read_text()
    config = load_serve_config(write(tmp_path, text))
    assert config == msgspec.structs.replace(
        ServeConfig(applications={}),
        applications={"ledger": ApplicationConfig(tmp_path / "ledger", tmp_path / "machine")},
    )
    found = load_serve_config(write(tmp_path, re.sub("(?m)^#(?=[a-z_]+ = )", "", text)))
    settings = found.applications["ledger"].settings
    assert settings.limits.max_cycles == 10**9
    settings = settings.replace(limits=Limits(), inspect_limits=Limits())
    assert settings == ApplicationSettings()
    assert found.token == "a secret"
    assert msgspec.structs.replace(found, token=None, applications=config.applications) == config
    keys = set(re.findall("(?m)^#?([a-z_]+) = ", text))
    structs = {*ServeConfig.__struct_fields__, *ApplicationSettings.__struct_fields__}
    assert keys == structs - {"applications", "token"} | {"token_file", "directory", "genesis"}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[applications.a]\ndirectory = "a"', "applications.a.directory"),
        ('[applications.a]\ndirectory = "a"\ngenesis = "none"', "applications.a.genesis"),
        ('[applications.a]\ndirectory = "a"\ngenesis = "."', "applications.a.genesis"),
        ('[applications.a]\ndirectory = "a"\ngenesis = "token"', "token"),
    ],
)
def test_what_is_not_there_is_named_before_anything_is_opened(tmp_path, text, field):
    config = load_serve_config(write(tmp_path, text))
    with pytest.raises(BadConfig, match=field):
        check_serve_config(config)
    if field.endswith("genesis"):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "inputs.sqlite").touch()
        check_serve_config(config)  # which needs no genesis


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_a_loop_whose_server_is_not_installed_is_named(tmp_path, monkeypatch, loop):
    text = f'loop = "{loop}"\n[applications.a]\ndirectory = "a"\ngenesis = "ledger.toml"'
    config = load_serve_config(write(tmp_path, text))
    check_serve_config(config)
    monkeypatch.setattr("orchestra.http.config.find_spec", lambda _: None)
    with pytest.raises(BadConfig, match=r"pip install 'orchestra\[http\]'"):
        check_serve_config(config)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "node.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadConfig, match=r"node\.toml.*TOML"):
        load_serve_config(tmp_path / "node.toml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadConfig, match=r"none\.toml"):
        load_serve_config(tmp_path / "none.toml")


@pytest.mark.parametrize("listen", ["", "nowhere", "host:", ":80", "host:http", "h:65536", "h:²"])
def test_an_address_that_cannot_be_is_refused(listen):
    with pytest.raises(BadConfig, match="listen"):
        listening(listen).__enter__()


def test_an_address_that_cannot_be_had_is_named(tmp_path):
    for listen in ("192.0.2.1:80", f"unix:{tmp_path / 'none' / 'socket'}"):
        with pytest.raises(OSError, match=listen), listening(listen):
            pass


def test_a_socket_in_a_folder_goes_with_its_server_and_is_taken_over_from_a_dead_one(tmp_path):
    listen = f"unix:{tmp_path / 'socket'}"
    with listening(listen) as listener:
        assert address_of(listener) == listen
        with pytest.raises(OSError, match="in use"), listening(listen):
            pass
    assert list(tmp_path.iterdir()) == []
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "socket"))
    with listening(listen):
        pass
    (tmp_path / "socket").write_text("not a socket")
    with pytest.raises(OSError, match="in use"), listening(listen):
        pass
    assert (tmp_path / "socket").read_text() == "not a socket"
