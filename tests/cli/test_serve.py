"""`orchestra serve` serves until a signal, on each loop, and goes on where it was."""

import json
import signal

import httpx
import pytest


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
