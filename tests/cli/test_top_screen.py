"""The live view of `orchestra top`, driven by its keys, on looks that were made up."""

import threading
from contextlib import asynccontextmanager

import pytest
from textual.widgets import DataTable, Input, Sparkline, Static

from orchestra.cli.top.columns import TABLES
from orchestra.cli.top.panels import Details, Help
from orchestra.cli.top.screen import Found, Top
from orchestra.errors import MachineClosed
from tests.cli.looks import application, look, machine, pool

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"  # textual's


def fleet(open_seconds=10.0, count=3, **changes):
    machines = [
        machine(n, f"/srv/m{n}", seconds=1.0 + n * open_seconds / 100, state=state)
        for n, state in zip(range(count), ("running", "waiting", "idle") * count, strict=False)
    ]
    applications = [application("ledger"), application("other", inputs=9)]
    pools = [pool("ledger"), pool("other")]
    return look(open_seconds, machines, applications, pools, **changes)


@asynccontextmanager
async def showing(first=None, size=(120, 30), ask=None, interval=3600.0):
    app = Top(ask or (lambda: first), first or fleet(), "http://node:8000", interval)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot


async def tell(app, pilot, found):
    app.post_message(Found(found))
    await pilot.pause()


def rows(app, name="machines"):
    grid = app.screen_stack[0].query_one(f"#{name}-rows", DataTable)
    return [[cell.plain for cell in grid.get_row_at(n)] for n in range(grid.row_count)]


def names(app, name="machines"):
    at = [column.title for column in table(name).columns].index("name")
    return [row[at] for row in rows(app, name)]


def table(name):
    return next(each for each in TABLES if each.name == name)


def text(app, name):
    return str(app.screen.query_one(f"#{name}", Static).content)


def state(app):
    return str(app.screen_stack[0].query_one("#state", Static).content)


async def test_the_busiest_machine_comes_first_below_what_the_fleet_does():
    async with showing() as (app, _):
        assert names(app) == ["/srv/m2", "/srv/m1", "/srv/m0"]
        for words in ("workers 2", "3 inspect", "256 MiB", "cycles/s 100 k"):
            assert words in text(app, "summary")
        assert "http://node:8000  every 3600 s" in state(app)


def shown(app):
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


@pytest.mark.parametrize("size", [(130, 40), (80, 24), (40, 16)])
async def test_the_figures_are_above_the_machines_on_a_screen_of_any_width(size):
    async with showing(size=size) as (app, _):
        lines = shown(app).splitlines()
        places = [
            next(nth for nth, line in enumerate(lines) if words in line)
            for words in ("workers", "http://node:8000", "applications", "/srv/m2")
        ]
        assert places == sorted(places)
        assert any("█" in line or "▁" in line for line in lines)  # the last minute
        assert "Quit" in lines[-1]


async def test_each_table_has_its_key():
    async with showing() as (app, pilot):
        await pilot.press("2")
        assert names(app, "applications") == ["ledger", "other"]
        assert app.table.name == "applications"
        await pilot.press("3")
        assert names(app, "pools") == ["ledger", "other"]
        await pilot.press("1")
        assert app.table.name == "machines"


async def test_rows_are_sorted_by_any_column_either_way():
    async with showing() as (app, pilot):
        await pilot.press("r")
        assert names(app) == ["/srv/m0", "/srv/m1", "/srv/m2"]
        titles = [column.title for column in table("machines").columns]
        for _ in range(titles.index("cpu %") - titles.index("name")):
            await pilot.press("<")
        assert names(app) == ["/srv/m0", "/srv/m1", "/srv/m2"]
        await pilot.press("r")
        assert names(app) == ["/srv/m2", "/srv/m1", "/srv/m0"]
        await pilot.press("<", "<", ">")
        assert rows(app)[0][0] == "2"  # by number


async def test_a_click_on_a_title_sorts_by_it():
    async with showing() as (app, pilot):
        await pilot.click("#machines-rows", offset=(8, 0))
        await pilot.pause()
        assert names(app) == ["/srv/m0", "/srv/m1", "/srv/m2"]
        await pilot.click("#machines-rows", offset=(8, 0))
        await pilot.pause()
        assert names(app) == ["/srv/m2", "/srv/m1", "/srv/m0"]


async def test_a_filter_stays_until_it_is_taken_away():
    async with showing() as (app, pilot):
        await pilot.press("slash", *"idle")
        assert names(app) == ["/srv/m2"]
        await pilot.press("enter")
        await tell(app, pilot, fleet(11.0))
        assert names(app) == ["/srv/m2"]
        await pilot.press("slash", *" q", "enter")  # a word, not a key
        assert names(app) == []
        await pilot.press("escape")
        assert len(names(app)) == 3
        assert not app.query_one("#filter", Input).display


async def test_the_cursor_stays_with_its_machine():
    async with showing() as (app, pilot):
        await pilot.press("down", "down")
        swapped = [machine(0, "/srv/m0", seconds=9.0), *fleet()["fleet"]["busiest"][1:]]
        await tell(app, pilot, look(20.0, swapped[:1], others=7))
        assert names(app) == ["/srv/m0"]
        assert "7 machines more" in state(app)
        await tell(app, pilot, fleet(21.0))
        await pilot.press("enter")
        assert app.screen.key == "busiest 0"


async def test_a_row_is_shown_whole_and_goes_on_while_it_is():
    async with showing() as (app, pilot):
        await tell(app, pilot, fleet(11.0))
        await pilot.press("enter")
        assert isinstance(app.screen, Details)
        assert "/srv/m2" in str(app.screen.query_one("#name").content)
        before = app.screen.query_one(Sparkline).data
        await tell(app, pilot, fleet(12.0))
        assert len(app.screen.query_one(Sparkline).data) == len(before) + 1
        await tell(app, pilot, look(13.0))
        assert "no longer there" in str(app.screen.query_one("#name").content)
        await pilot.press("escape")
        assert not isinstance(app.screen, Details)


async def test_help_names_every_key_and_column():
    async with showing() as (app, pilot):
        await pilot.press("question_mark")
        assert isinstance(app.screen, Help)
        for words in ("pause", "quit", "sort", "cpu %", "╭"):
            assert words in shown(app)
        await pilot.press("q")
        assert not isinstance(app.screen, Help)
        assert app.is_running


async def test_a_pause_holds_the_picture():
    async with showing() as (app, pilot):
        await pilot.press("space")
        await tell(app, pilot, look(11.0))
        assert len(names(app)) == 3
        assert "paused" in state(app)
        await pilot.press("space")
        await tell(app, pilot, look(12.0))
        assert names(app) == []
        assert "paused" not in state(app)


async def test_a_server_that_goes_away_is_asked_until_it_is_back():
    async with showing() as (app, pilot):
        await tell(app, pilot, MachineClosed("http://node:8000: Connection refused"))
        assert "no answer since" in state(app)
        assert "trying again" in state(app)
        assert "refused" in state(app)
        assert len(names(app)) == 3
        await tell(app, pilot, fleet(1.0, count=1))  # it began anew
        assert "no answer" not in state(app)
        assert names(app) == ["/srv/m0"]


async def test_looks_come_by_themselves_as_often_as_wanted():
    asked = threading.Semaphore(0)

    def ask():
        asked.release()
        return fleet(11.0)

    async with showing(ask=ask, interval=0.1) as (app, pilot):
        while not asked.acquire(blocking=False):
            await pilot.pause()
        await pilot.press("minus", "minus", "plus")
        assert "every 0.2 s" in state(app)
        await pilot.press("plus", "plus", "plus")
        assert "every 0.1 s" in state(app)


@pytest.mark.parametrize("size", [(120, 40), (40, 12), (20, 6), (300, 90)])
async def test_any_size_will_do(size):
    async with showing(size=size) as (app, pilot):
        for key in ("2", "3", "1", "question_mark", "escape", "enter", "escape"):
            await pilot.press(key)
        await pilot.resize_terminal(*reversed(size))
        await tell(app, pilot, fleet(11.0))
        assert len(names(app)) == 3


async def test_a_thousand_machines_are_a_table_like_any_other():
    async with showing(fleet(count=1000)) as (app, pilot):
        await pilot.press("end")
        await tell(app, pilot, fleet(11.0, count=1000))
        assert len(names(app)) == 1000
        assert app.query_one("#machines-rows", DataTable).cursor_row == 999


async def test_without_colours_the_cursor_is_still_seen(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with showing() as (app, pilot):
        await pilot.press("down")
        (line,) = [line for line in app.screen._compositor.render_strips() if "m1" in line.text]
        assert any(part.style.reverse for part in line if "m1" in part.text)


async def test_q_quits():
    async with showing() as (app, pilot):
        await pilot.press("q")
        assert app.return_code == 0
