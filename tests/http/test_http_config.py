"""A server's file says what to serve; what cannot be in it is named."""

from pathlib import Path

import pytest

from orchestra.errors import BadConfig
from orchestra.http.config import load_serve_config
from orchestra.http.server import bind
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
        ('[applications.a]\ndirectory = "a"\nspeed = 9', "applications.a"),
        ('[applications.a]\ndirectory = "a"\nkeep = 0', "applications.a.keep"),
        ('workers = 0\n[applications.a]\ndirectory = "a"', "workers"),
        ('max_body = "lots"\n[applications.a]\ndirectory = "a"', "max_body"),
        ('loop = "curio"\n[applications.a]\ndirectory = "a"', "loop"),
        ('color = 1\n[applications.a]\ndirectory = "a"', "config"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, text, field):
    with pytest.raises(BadConfig) as refused:
        load_serve_config(write(tmp_path, text))
    assert field in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadConfig, match=r"none\.toml"):
        load_serve_config(tmp_path / "none.toml")


@pytest.mark.parametrize("listen", ["", "nowhere", "host:", ":80", "host:http"])
def test_an_address_that_cannot_be_is_refused(listen):
    with pytest.raises(BadConfig, match="listen"):
        bind(listen)
