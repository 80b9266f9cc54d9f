"""Password hashes (Argon2id), computed beside the event loop by a few threads."""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pwdlib import PasswordHash

from .metrics import PASSWORDS_PENDING

MIN_PASSWORD_CHARACTERS = 8  # NIST SP 800-63B §5.1.1.2
MAX_PASSWORD_CHARACTERS = 128

T = TypeVar("T")


class PasswordsBusy(Exception):
    """More passwords wait than may."""


class Passwords:
    """Hashes and verifies with at most `threads` at once, each of which takes 64 MiB while it works."""

    def __init__(self, threads: int, max_waiting: int) -> None:
        self._hasher = PasswordHash.recommended()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="password")
        self._max_pending = threads + max_waiting
        self._pending = 0
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """Raises `PasswordsBusy`."""
        return await self._run(self._hasher.hash, password)

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether the password is the hash's. None, for a user that is unknown, takes as long and is False.

        Raises `PasswordsBusy`.
        """
        if len(password) > MAX_PASSWORD_CHARACTERS:
            return False
        verified = await self._run(self._hasher.verify, password, password_hash or self._nobodys_hash)
        return verified and password_hash is not None

    async def _run(self, work: Callable[..., T], *args: str) -> T:
        if self._pending >= self._max_pending:
            raise PasswordsBusy
        self._pending += 1
        try:
            with PASSWORDS_PENDING.track_inprogress():
                return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._pending -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
