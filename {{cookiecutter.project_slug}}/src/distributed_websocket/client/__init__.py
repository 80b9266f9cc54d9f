"""Clients of the service, which come back by themselves and miss nothing, or say so.

reconnecting.py   `Client`, on asyncio
handshake.py      one try to connect
stream.py         between what is heard and whoever iterates
session.py        what is said, and what it means: without I/O, for clients on anything else
place.py          where a subscription is in its log
events.py         what comes out of a session
errors.py
"""

from .errors import ConnectionEnded, RequestRefused
from .handshake import may_repeat_handshake
from .reconnecting import Client, Members, Page, State
from .session import ClientSession
from .stream import Stream

__all__ = [
    "Client",
    "ClientSession",
    "ConnectionEnded",
    "Members",
    "Page",
    "RequestRefused",
    "State",
    "Stream",
    "may_repeat_handshake",
]
