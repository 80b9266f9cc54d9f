"""Who may do what in the chat: everybody who has an account may go into every room, and into nothing else."""

from distributed_websocket import Connection, Policy

from ..rooms import ANNOUNCEMENTS_TOPIC, is_room


class ChatPolicy(Policy):
    """Change it here if rooms are to have members: both questions come with the connection, and so with its user."""

    def may_subscribe(self, connection: Connection, pattern: str) -> bool:
        """One room at a time: a pattern such as `room/+` would be all rooms of everybody."""
        return is_room(pattern) or pattern == ANNOUNCEMENTS_TOPIC

    def may_publish(self, connection: Connection, topic: str) -> bool:
        return is_room(topic) or topic == ANNOUNCEMENTS_TOPIC

    def shows_presence(self, topic: str) -> bool:
        return is_room(topic)
