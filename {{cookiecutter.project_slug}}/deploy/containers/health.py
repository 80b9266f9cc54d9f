"""Whether the process in this container is ready: exit code 0, or its reason on stdout and 1.

Run by the container's health check, every few seconds: nothing but sockets, so that it costs little.
"""

import os
import socket
import sys

TIMEOUT_SECONDS = 2.0
MAX_ANSWER_BYTES = 8192


def ask(port: int) -> tuple[int, str]:
    """The HTTP status and the body of GET /readyz."""
    request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        while len(answer) < MAX_ANSWER_BYTES and (chunk := connection.recv(MAX_ANSWER_BYTES)):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(None, 2)[1]), body.decode("utf-8", "replace")


if __name__ == "__main__":
    try:
        status, body = ask(int(os.environ.get("CHAT_BIND_PORT", "8000")))
    except (OSError, ValueError, IndexError) as error:
        sys.exit(f"does not answer: {error}")
    if status != 200:
        sys.exit(body)
