"""A server's file says what to serve; what cannot be in it is named."""

import socket
from pathlib import Path

import pytest

from orchestra.errors import BadConfig
from orchestra.http.config import load_serve_config
from orchestra.http.server import address_of, listening
from orchestra.machine import MachineConfig
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
        ('color = 1\n[applications.a]\ndirectory = "a"', "config"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, text, field):
    with pytest.raises(BadConfig) as refused:
        load_serve_config(write(tmp_path, text))
    assert field in str(refused.value)


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
