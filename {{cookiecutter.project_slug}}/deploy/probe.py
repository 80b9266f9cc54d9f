"""GET, usually from a port of this machine. Never through a proxy, whatever the environment says."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


def get(port: int, path: str, timeout_seconds: float = 1.0, *, scheme: str = "http", host: str = HOST) -> Answer | None:
    """None where nobody answers in time. A certificate is not verified: it is for the public name of the service."""
    connection: http.client.HTTPConnection
    if scheme == "https":
        unverified = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_seconds, context=unverified)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
