"""The configuration that Redis starts with: the settings and the users of `deploy/redis`, then what differs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from string import Template
from urllib.parse import quote

from deploy.settings import PROJECT_ROOT

USER = "chat"
"""Whom the service logs in as."""


def redis_configuration(password: str, own: Iterable[str]) -> str:
    """`own` are the lines for this way to run. The password itself is not in it, only its hash."""
    folder = PROJECT_ROOT / "deploy" / "redis"
    password_hash = hashlib.sha256(password.encode()).hexdigest()
    users = Template((folder / "users.conf").read_text("utf-8")).substitute(password_hash=password_hash)
    return "\n".join([(folder / "redis.conf").read_text("utf-8"), users, *own, ""])


def redis_url(password: str, host: str, port: int, *, scheme: str = "redis") -> str:
    return f"{scheme}://{USER}:{quote(password, safe='')}@{host}:{port}/0"
