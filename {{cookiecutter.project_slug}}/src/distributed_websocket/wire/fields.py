"""What the fields of messages hold, with their limits; and `WireModel`, the base of all messages."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ..auth import MAX_TOKEN_CHARACTERS
from ..message import MAX_CONN_IDS, MAX_REF_INTEGER, MAX_REF_LENGTH
from ..topics import MAX_TOPIC_BYTES

# JSON Schema counts characters where the server counts bytes of UTF-8; the descriptions say so.
Topic = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TOPIC_BYTES,
        pattern=r"^[^+#\u0000]+$",
        description=f"Levels separated by `/`, without wildcards; at most {MAX_TOPIC_BYTES} bytes in UTF-8.",
    ),
]
Pattern = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_TOPIC_BYTES,
        pattern=r"^([+]|[^+#/\u0000]*)(/([+]|[^+#/\u0000]*))*(/#)?$|^#$",
        description="A topic, or a pattern: `+` for any one level, `#` at the end for any number (MQTT 5 §4.7).",
    ),
]
Ref = Annotated[
    Annotated[str, Field(max_length=MAX_REF_LENGTH)]
    | Annotated[int, Field(ge=-MAX_REF_INTEGER, le=MAX_REF_INTEGER)]
    | None,
    Field(description="The client's name for a request. The answer repeats it."),
]
Position = Annotated[
    str,
    Field(max_length=41, pattern=r"^[0-9]+-[0-9]+$", description="A place in the log, `ms-seq`; both are numbers."),
]
Nothing = Annotated[None, Field(description="Must not be given.")]
ConnId = Annotated[str, Field(description="The connection's id.")]
ConnIds = Annotated[list[str], Field(min_length=1, max_length=MAX_CONN_IDS)]
Token = Annotated[str, Field(max_length=MAX_TOKEN_CHARACTERS, description="A bearer token (JWT).")]
User = Annotated[str | None, Field(description="By the server's word; null for an anonymous connection.")]
Worker = Annotated[str, Field(description="The worker that holds the connection.")]
Milliseconds = Annotated[int, Field(ge=0, description="Unix time in milliseconds, by the server's clock.")]
ExpiresAt = Annotated[float, Field(ge=0, description="When the token expires or expired: Unix time in seconds.")]


class WireModel(BaseModel):
    """A message. Its docstring is its description, `examples` are whole messages."""

    model_config = ConfigDict(extra="forbid")
    examples: ClassVar[tuple[dict[str, Any], ...]]
