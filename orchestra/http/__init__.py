"""Applications over HTTP: an ASGI application of routes, metrics and errors (extra `http`).

config    what `orchestra serve` reads
app       routes, and the ASGI application made of them
stream    answers that come bit by bit
wire      what goes over the wire: bodies, parameters, events, errors
openapi   the description of all that
metrics   a fleet's statistics for Prometheus
guard     who may ask: tokens, lengths of bodies
server    run it under uvicorn or hypercorn
"""

from orchestra.http.app import create_app, serving_app
from orchestra.http.config import ServeConfig, check_serve_config, load_serve_config

__all__ = [
    "ServeConfig",
    "check_serve_config",
    "create_app",
    "load_serve_config",
    "serving_app",
]
