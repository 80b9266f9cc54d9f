"""What a room is: a name, and the topic `room/NAME` where its messages go."""

import re

ROOM_NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,39}$"
"""Small letters, digits and `-`: no two names look alike, and a name can stand in a topic, in a key and in a URL."""

ANNOUNCEMENTS_TOPIC = "rooms"
"""Where it is said that there is a new room. Ephemeral: who comes later asks for the list."""

_ROOM_TOPIC = re.compile(f"room/{ROOM_NAME_PATTERN[1:-1]}", re.ASCII)


def is_room(topic: str) -> bool:
    return _ROOM_TOPIC.fullmatch(topic) is not None
