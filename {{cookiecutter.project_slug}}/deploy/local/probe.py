"""GET from a port of this machine. Never through a proxy, whatever the environment says."""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from deploy.local.layout import HOST


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


def get(port: int, path: str, timeout_seconds: float = 1.0) -> Answer | None:
    """None where nobody answers in time."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
