"""A ledger served by a real server: uvicorn on asyncio and uvloop, hypercorn on trio."""

from contextlib import asynccontextmanager

import anyio
import httpx
import pytest

from orchestra.http import serving_app
from orchestra.http.config import ApplicationConfig, ServeConfig
from orchestra.http.server import address_of, listening, serve_hypercorn, serve_uvicorn
from orchestra.sched.settings import ApplicationSettings
from tests.guests import ready_ledger
from tests.sched.conftest import anyio_backend  # noqa: F401 - uvloop as well

TOKEN = "a secret"
SETTINGS = ApplicationSettings(durable=False, inspect_size=4, inspect_queue=60, queue=2)


def serve(anyio_backend_name):
    return serve_hypercorn if anyio_backend_name == "trio" else serve_uvicorn


@asynccontextmanager
async def running(app, backend):
    """Serve, and yield the address."""
    stop = anyio.Event()
    with listening("127.0.0.1:0") as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(serve(backend), app, listener, stop.wait)
            yield address_of(listener)
            stop.set()


@asynccontextmanager
async def client_of(address, **options):
    async with httpx.AsyncClient(base_url=address, timeout=30, **options) as client:
        yield client


@pytest.fixture
def genesis(tmp_path):
    with ready_ledger() as machine:
        machine.advance(b"mint alice 100")
        machine.snapshot(tmp_path / "genesis")
    return tmp_path / "genesis"


@pytest.fixture
def config(tmp_path, genesis):
    ledger = ApplicationConfig(tmp_path / "app", genesis, SETTINGS)
    return ServeConfig(applications={"ledger": ledger}, max_body=10_000)


@pytest.fixture
async def client(config, anyio_backend_name):
    serving = running(serving_app(config), anyio_backend_name)
    async with serving as address, client_of(address) as client:
        while (await ready(client)).status_code != 200:
            await anyio.lowlevel.checkpoint()
        yield client


async def ready(client):
    return await client.get("/ready")
