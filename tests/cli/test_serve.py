"""`orchestra serve` serves until a signal, on each loop, and goes on where it was."""

import json
import logging
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from orchestra.cli.logs import LogFormat, LogLevel, logging_to_stderr
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
    assert "server.listening" in line, line
    return re.search(r"http://127\.0\.0\.1:[0-9]+", line).group()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_applications_are_served_until_a_signal(start, app, loop):
    for inputs in (0, 1):
        process = start("serve", write(app.parent, loop), "--json", "--log-level", "debug")
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
        lines = [json.loads(line) for line in err.splitlines()]
        names = [line["event"] for line in lines]
        assert (names[0], names[-1]) == ("fleet.opened", "server.stopped")
        assert {"application.opened", "advance.ended", "application.closed"} < set(names)
        (request,) = [line for line in lines if line.get("method") == "POST"]
        (advance,) = [line for line in lines if line["event"] == "advance.ended"]
        assert request["request_id"] == advance["request_id"]


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
    assert process.returncode == 0
    assert b"server.stopped" in err.splitlines()[-1]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_application_that_cannot_be_opened_is_one_line(orchestra, app, loop):
    path = write(app.parent, loop)
    (app / "machine.json").write_text("{}")
    found = orchestra("serve", path, status=2)
    assert "machine.json" in found.error
    assert "Traceback" not in found.err


def test_a_file_is_looked_at_without_serving(orchestra, app):
    path = write(app.parent, "trio")
    assert orchestra("serve", path, "--check").err.endswith("ledger on 127.0.0.1:0\n")
    found = orchestra("serve", path, "--check", "--json").json
    assert found == {"listen": "127.0.0.1:0", "applications": ["ledger"]}
    elsewhere = orchestra("serve", path, "--check", "--json", "--listen", "[::1]:9").json
    assert elsewhere["listen"] == "[::1]:9"
    assert "listen" in orchestra("serve", path, "--check", "--listen", "nowhere", status=2).error
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


@pytest.mark.parametrize(
    ("options", "wanted", "unwanted"),
    [
        ([], "application.opened", "advance.ended"),
        (["--log-level", "debug"], "advance.ended", '{"'),
        (["--log-format", "json"], '"event": "application.opened"', "advance.ended"),
    ],
)
def test_a_log_is_as_detailed_and_written_as_wanted(start, app, options, wanted, unwanted):
    process = start("serve", write(app.parent, "asyncio"), *options)
    advance_one(address_in(process))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert wanted in err.decode()
    assert "POST" in err.decode()
    assert unwanted not in err.decode()
    if "json" in options:
        for line in err.splitlines():
            assert {"event", "level", "timestamp"} <= set(json.loads(line))


def advance_one(address, **options):
    with httpx.Client(base_url=address, timeout=60, **options) as client:
        while client.get("/ready").status_code != 200:
            pass
        return client.post("/applications/ledger/advance", content=b"mint bob 1")


def test_what_libraries_log_comes_out_alike(capsys):
    with logging_to_stderr(LogFormat.JSON, LogLevel.WARNING) as logger:
        logger.info("unheard")
        logger.warning("ours", field=1)
        mistake = ValueError("a mistake")
        logging.getLogger("uvicorn.error").error("theirs %s", 2, exc_info=mistake)
    logging.getLogger("uvicorn.error").error("after")
    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["level"], ours["field"]) == ("ours", "warning", 1)
    assert (theirs["event"], theirs["level"]) == ("theirs 2", "error")
    assert "ValueError: a mistake" in theirs["exception"]
    assert ours["timestamp"] <= theirs["timestamp"]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_at_a_signal_what_is_short_is_finished_and_the_rest_cancelled_in_time(start, app, loop):
    path = write(app.parent, loop)
    path.write_text("drain_seconds = 6\n" + path.read_text())
    process = start("serve", path, "--log-format", "json", "--log-level", "debug")
    address = address_in(process)
    assert advance_one(address).json()["number"] == 1

    def ask(kind, payload):
        try:
            url = f"{address}/applications/ledger/{kind}"
            return httpx.post(url, content=payload, timeout=60).status_code
        except httpx.TransportError:
            return None

    with ThreadPoolExecutor(3) as pool:
        endless = [pool.submit(ask, kind, b"spin 1000000000000") for kind in ("inspect", "advance")]
        short = pool.submit(ask, "inspect", b"spin 100000000")
        with httpx.Client(base_url=address, timeout=60) as client:
            while not short.done() and running(client) < 2:
                pass
            while not any(
                row["doing"] == "advance"
                for row in client.get("/statistics").json()["fleet"]["busiest"]
            ):
                pass
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - began < 6 + 10
        assert process.returncode == 0, err
        assert short.result() == 200
        assert [each.result() for each in endless] == [503, 503]  # and undone
    assert b'"event": "call.cancelled"' in err
    assert b'"event": "server.stopped"' in err.splitlines()[-1]
    process = start("serve", path)
    assert advance_one(address_in(process)).json()["number"] == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def test_a_second_signal_ends_it_at_once(start, app):
    process = start("serve", write(app.parent, "asyncio"))
    address = address_in(process)
    advance_one(address)
    with ThreadPoolExecutor(1) as pool:
        url = f"{address}/applications/ledger/inspect"
        asking = pool.submit(httpx.post, url, content=b"spin 1000000000000", timeout=60)
        with httpx.Client(base_url=address, timeout=60) as client:
            while not running(client):
                pass
        process.send_signal(signal.SIGTERM)
        while is_listening(address):
            pass
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=5)
        assert process.returncode == -signal.SIGTERM
        with pytest.raises(httpx.TransportError):
            asking.result()


def running(client):
    return client.get("/applications/ledger").json()["inspects"]["running"]


def is_listening(address):
    try:
        httpx.get(f"{address}/health", timeout=60)
    except httpx.TransportError:
        return False
    return True


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_at_sighup_the_file_says_anew_who_may_ask(start, app, loop):
    path = write(app.parent, loop)
    served = path.read_text()
    process = start("serve", path)
    address = address_in(process)
    assert advance_one(address).status_code == 200
    (app.parent / "token").write_text("a secret\n")

    def told(text):
        path.write_text(text)
        process.send_signal(signal.SIGHUP)
        while b"config." not in (line := process.stderr.readline()):
            pass
        return line

    assert b"config.read" in told('token_file = "token"\n' + served)
    with httpx.Client(base_url=address, timeout=60) as client:
        while client.get("/applications").status_code != 401:
            pass
    headers = {"authorization": "Bearer a secret"}
    assert advance_one(address, headers=headers).json()["number"] == 2
    refused = told("workers = 0\n" + served)
    assert b"config.refused" in refused
    assert b"workers" in refused
    assert advance_one(address, headers=headers).json()["number"] == 3
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
