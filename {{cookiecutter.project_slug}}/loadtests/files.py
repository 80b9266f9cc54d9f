"""The limit of open files: a connection is one, and many systems begin with 1024."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)


def raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS has a limit of its own below an "unlimited" one
        logger.warning("the limit of open files stays at %s", resource.getrlimit(resource.RLIMIT_NOFILE))
