"""`Contender`: a server to compare, how it is started, and what its clients say. Read from `contenders/NAME.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "contenders"


@dataclass(frozen=True)
class Conversation:
    """What a client says, and waits for: lines `> text` and `< beginning of the text`.

    `{room}` and `{conn}` stand for the room and the connection, `{body}` for what the client recognizes again.
    """

    path: str
    publish: str
    greet: tuple[str, ...] = ()
    """Until the connection can be used at all."""
    join: tuple[str, ...] = ()
    """Until it hears its room."""
    headers: tuple[str, ...] = ()
    ask: str = ""
    """A frame that the server wants answered with `answer`, like Engine.IO's ping."""
    answer: str = ""


@dataclass(frozen=True)
class Contender:
    name: str
    title: str
    command: tuple[str, ...]
    conversation: Conversation
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: str = "python"
    """`python`, `node`, `nchan` or `cc`: what must be there for it to run."""
    config: str = ""
    """A configuration file beside it, whose placeholders are filled in like those of `command`."""
    folder: str = ""
    """The folder that it is started in, where that is not the one with its file."""
    behind: str = ""
    """For a gateway: the contender that stands behind it, and whose conversation passes through it."""
    redis: bool = True
    limit: bool = False
    """No server that anyone would run, but the limit of the machine: ratios are not counted with it."""
    versions: tuple[str, ...] = ()
    """Distributions whose versions belong into the results."""


def load(name: str) -> Contender:
    """Read one contender. Raises `OSError`, `KeyError` or `TypeError` for a file that is not one."""
    fields = with_tuples(tomllib.loads((FOLDER / f"{name}.toml").read_text()))
    if "behind" in fields:
        return Contender(name=name, conversation=load(fields["behind"]).conversation, **fields)
    return Contender(name=name, conversation=Conversation(**with_tuples(fields.pop("conversation"))), **fields)


def with_tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def load_all() -> list[Contender]:
    return [load(file.stem) for file in sorted(FOLDER.glob("*.toml"))]
