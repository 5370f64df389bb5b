"""`orchestra serve` serves until a signal, on each loop, and goes on where it was."""

import json
import signal

import httpx
import pytest

from orchestra.io.lock import try_lock


def write(folder, loop):
    path = folder / "node.toml"
    path.write_text(
        f'listen = "127.0.0.1:0"\nloop = "{loop}"\n'
        '[applications.ledger]\ndirectory = "served"\ngenesis = "app"\ndurable = false\n'
    )
    return path


def address_in(process):
    line = process.stderr.readline().decode()
    assert line.startswith("listening on http://127.0.0.1:"), line
    return line.split()[-1]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_applications_are_served_until_a_signal(start, app, loop):
    for inputs in (0, 1):
        process = start("serve", write(app.parent, loop), "--json")
        with httpx.Client(base_url=address_in(process), timeout=30) as client:
            while client.get("/ready").status_code != 200:
                pass
            assert client.get("/applications/ledger").json()["inputs"] == inputs
            sent = client.post("/applications/ledger/advance", content=b"mint bob 1")
            assert sent.json()["number"] == inputs + 1
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert json.loads(out)["applications"] == ["ledger"]
        assert process.returncode == 0
        *events, last = err.decode().splitlines()
        assert last == "stopped"
        names = [json.loads(line)["event"] for line in events]
        assert names[0] == "fleet.opened"
        assert {"application.opened", "advance.ended", "application.closed"} < set(names)


def test_a_file_that_cannot_be_is_an_error(orchestra, tmp_path):
    (tmp_path / "node.toml").write_text("workers = 0\n")
    assert "applications" in orchestra("serve", tmp_path / "node.toml", status=2).error


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_server_lives_while_it_waits_for_a_folder_and_stops_all_the_same(start, app, loop):
    (app.parent / "served").mkdir()
    with try_lock(app.parent / "served", "exclusive"):
        process = start("serve", write(app.parent, loop))
        with httpx.Client(base_url=address_in(process), timeout=30) as client:
            assert client.get("/health").status_code == 200
            for path in ("/ready", "/applications/ledger", "/metrics"):
                assert client.get(path).status_code == 503
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"stopped\n")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_application_that_cannot_be_opened_is_one_line(orchestra, app, loop):
    path = write(app.parent, loop)
    (app / "machine.json").write_text("{}")
    found = orchestra("serve", path, status=2)
    assert "machine.json" in found.error
    assert len(found.err.splitlines()) == 2


def test_a_file_is_looked_at_without_serving(orchestra, app):
    path = write(app.parent, "trio")
    assert orchestra("serve", path, "--check").err.endswith("ledger on 127.0.0.1:0\n")
    found = orchestra("serve", path, "--check", "--json").json
    assert found == {"listen": "127.0.0.1:0", "applications": ["ledger"]}
    path.write_text(path.read_text().replace('"app"', '"nothing"'))
    for check in (["--check"], []):  # nothing listens either
        found = orchestra("serve", path, *check, status=2)
        assert "applications.ledger.genesis" in found.error
        assert len(found.err.splitlines()) == 1


def test_the_example_of_a_file_is_one(orchestra, app):
    path = app.parent / "node.toml"
    app.rename(app.parent / "machine")
    path.write_text(orchestra("serve", "--example").out)
    assert "ledger on 127.0.0.1:8000" in orchestra("serve", path, "--check").err
