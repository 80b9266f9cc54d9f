"""The service's log lines: one format for all libraries, and no tokens in any of them."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from distributed_websocket.auth import issue_token
from tests.service import load

configure: Any = load("logging").configure

TOKEN = issue_token("alice", secret="an-example-secret-of-enough-characters", lifetime_seconds=60)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Loggers are global: the next test gets them as this one found them."""
    names = ("", "uvicorn", "uvicorn.access", "uvicorn.error", "websockets", "redis")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_lines_of_the_service_and_of_libraries_are_json_objects(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    structlog.get_logger("chat").info("connected", user="alice")
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7, extra={"color_message": "\x1b[36m%d"})
    own, foreign = map(json.loads, lines(capsys))
    assert (own["event"], own["user"], own["level"], own["logger"]) == ("connected", "alice", "info", "chat")
    assert (foreign["event"], foreign["level"]) == ("Started server process [7]", "info")
    assert "color_message" not in foreign
    assert own["timestamp"].endswith("Z")


def test_lines_for_people_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info")
    structlog.get_logger("chat").info("connected", user="alice")
    (line,) = lines(capsys)
    assert "connected" in line
    assert "alice" in line
    assert "{" not in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_query_strings_are_cut_off(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    """uvicorn writes the whole path of every handshake and request into its log, tokens in the URL included."""
    configure(log_format, "info")
    logging.getLogger("uvicorn.error").info('%s - "WebSocket %s" 403', "1.2.3.4:5", "/ws?token=geheim")
    access = logging.getLogger("uvicorn.access")
    access.info('%s - "%s %s HTTP/%s" %d', "1.2.3.4:5", "GET", "/api?token=geheim", "1.1", 200)
    handshake, request = lines(capsys)
    assert "/ws" in handshake
    assert "/api" in request
    assert "geheim" not in handshake + request


def test_questions_of_the_balancer_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info")
    for path in ("/readyz", "/healthz", "/api/token"):
        logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "1.2.3.4:5", "GET", path, "1.1", 200)
    (line,) = lines(capsys)
    assert "/api/token" in line


def test_an_accepted_handshake_is_not_logged_because_the_end_of_its_connection_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("text", "info")
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.info('%s - "WebSocket %s" [accepted]', "1.2.3.4:5", "/ws")
    uvicorn.info('%s - "WebSocket %s" %d', "1.2.3.4:5", "/ws", 403)
    (line,) = lines(capsys)
    assert "403" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_token_is_taken_out_wherever_it_stands(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format, "info")
    log = structlog.get_logger("chat")
    log.info("message with %s", TOKEN)
    log.info("with a field", token=TOKEN)
    logging.getLogger("library").warning("header %r", {"authorization": f"Bearer {TOKEN}"})
    try:
        local_variable = TOKEN
        raise ValueError(f"not good: {local_variable}")
    except ValueError:
        log.exception("failed")
    written = capsys.readouterr().err
    assert "ValueError: not good: [token]" in written
    assert written.count("[token]") >= 4
    assert TOKEN not in written
    assert TOKEN.rpartition(".")[2] not in written


def test_debug_does_not_make_libraries_write_down_headers_and_frames(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "debug")
    for name in ("uvicorn.error", "websockets.client", "websockets.server"):
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
    structlog.get_logger("chat").debug("ours stay")
    assert "ours stay" in capsys.readouterr().err
