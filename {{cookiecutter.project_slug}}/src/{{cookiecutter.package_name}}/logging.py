"""Where log lines go, what they look like, and what never gets into them: tokens, query strings, message bodies."""

import logging
import re
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_ASKED_ALL_THE_TIME = frozenset(("/healthz", "/readyz", "/metrics"))


def configure(log_format: Literal["text", "json"], log_level: str) -> None:
    """Send the lines of structlog, uvicorn and all libraries to stderr, in one format."""
    stamped: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *stamped,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(without_query_string)
    handler.addFilter(no_health_check)
    handler.addFilter(no_accepted_handshake)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=[*stamped, structlog.stdlib.ExtraAdder(), _without_colored_copy],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(log_format)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(log_level.upper())
    for name in ("uvicorn", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    # At the level DEBUG these write down every header and frame.
    for name in ("uvicorn.error", "websockets"):
        logging.getLogger(name).setLevel(max(root.level, logging.INFO))


def _rendering(log_format: Literal["text", "json"]) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # structlog's own choice, where rich is installed, shows local variables, and tokens with them.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]


def _without_colored_copy(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """uvicorn adds each of its messages once more, in colors."""
    event.pop("color_message", None)
    return event


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Takes out of the finished line whatever looks like a token, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return _JWT.sub("[token]", super().format(record))


def without_query_string(record: logging.LogRecord) -> bool:
    """uvicorn logs the whole path of each request and handshake, and people put tokens into query strings."""
    if record.name.startswith("uvicorn") and isinstance(record.args, tuple):
        record.args = tuple(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True


def no_health_check(record: logging.LogRecord) -> bool:
    """The balancer asks every second, Prometheus every few: that is no news."""
    if record.name != "uvicorn.access" or not isinstance(record.args, tuple):
        return True
    return record.args[2] not in _ASKED_ALL_THE_TIME


def no_accepted_handshake(record: logging.LogRecord) -> bool:
    """A worker writes one line for each connection, at its end, with everything in it. When everybody comes back at
    once, a second one from uvicorn would double the work."""
    return not (record.name == "uvicorn.error" and isinstance(record.msg, str) and record.msg.endswith("[accepted]"))
