"""`Arrivals`: positions for messages of a service that has no log, by the order in which they first reach anybody.

Everybody hears one channel in one order. So whoever is first to receive one message receives it before any later one,
and the order of first arrivals is the channel's. It does no I/O.
"""

from __future__ import annotations

from .ledger import Ledger


class Arrivals:
    """Gives the ledger its positions. An ack names none, and may come first: it is kept until the message has one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._positions: dict[int, str] = {}
        self._unplaced: set[int] = set()

    def newest(self) -> str:
        """Where somebody who subscribes now begins."""
        return f"0-{len(self._positions)}"

    def deliver(self, message: int) -> str:
        """The position of a message that somebody receives now."""
        position = self._positions.get(message)
        if position is None:
            position = self._positions[message] = f"0-{len(self._positions) + 1}"
            if message in self._unplaced:
                self._unplaced.remove(message)
                self._ledger.acknowledge(message, position)
        return position

    def acknowledge(self, message: int) -> bool:
        """Note an ack. Returns whether it is the first one."""
        if message in self._positions:
            return self._ledger.acknowledge(message, self._positions[message])
        if message in self._unplaced:
            return False
        self._unplaced.add(message)
        return True

    def close(self) -> None:
        """Nothing more comes: what was acknowledged and reached nobody is missing for everybody."""
        for message in sorted(self._unplaced):
            self.deliver(message)
