"""`Policy`: who may do what. One object decides for every message and connection; subclass it to decide differently."""

from __future__ import annotations

from .connection import Connection


class Policy:
    """The default: clients may subscribe to and publish on any topic that is not the server's own (`$...`).

    What reaches others without their subscribing, `broadcast` and `send_by_conn_id`, is off.
    """

    def may_subscribe(self, connection: Connection, pattern: str) -> bool:
        """Also asked before history and presence of a topic are shown."""
        return not pattern.startswith("$")

    def may_publish(self, connection: Connection, topic: str) -> bool:
        return bool(topic) and not topic.startswith("$")

    def may_broadcast(self, connection: Connection) -> bool:
        return False

    def may_address(self, connection: Connection, conn_ids: tuple[str, ...]) -> bool:
        return False

    def shows_presence(self, topic: str) -> bool:
        """Whether it is kept who is in a topic, and subscribers are told who `joined` and `left`.

        Off: in a topic with many subscribers, each of them hears of every other one.
        """
        return False
