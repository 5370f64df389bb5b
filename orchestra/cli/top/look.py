"""Ask a server what its fleet does."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from contextlib import suppress
from typing import Any

from orchestra.errors import BadConfig, MachineClosed

__all__ = ["look"]

ANSWER_SECONDS = 5
KEYS = {"fleet", "memory_bytes", "disks"}


def look(address: str, token: str | None, busiest: int) -> dict[str, Any]:
    """Return what the server says; MachineClosed when it says nothing that is a fleet's."""
    if not address.startswith(("http://", "https://")):
        raise BadConfig("URL", address, "http://host:port")
    try:
        url = f"{address.rstrip('/')}/statistics?busiest={busiest}"
        request = urllib.request.Request(url)  # noqa: S310 - checked above
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        detail = f"{error.code} {error.reason}"
        with error, suppress(ValueError, KeyError, TypeError):
            detail = json.load(error)["detail"]
        raise MachineClosed(f"{address}: {detail}") from error
    except OSError as error:
        raise MachineClosed(f"{address}: {getattr(error, 'reason', error)}") from error
    except http.client.InvalidURL as error:
        raise BadConfig("URL", address, "http://host:port") from error
    except (http.client.HTTPException, ValueError) as error:
        raise MachineClosed(f"{address}: what answers there is no fleet: {error}") from error
    if not isinstance(found, dict) or not found.keys() >= KEYS:
        raise MachineClosed(f"{address}: what answers there is no fleet")
    return found
