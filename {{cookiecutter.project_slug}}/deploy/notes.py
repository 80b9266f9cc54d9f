"""Small JSON files in `var/run`, whole or not there, and for the owner's eyes only.

Every process of the stack passes through here while it starts: nothing but the standard library.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def run_dir(root: Path) -> Path:
    return root / "var" / "run"


def write_json(path: Path, content: object) -> None:
    write_private(path, json.dumps(content))


def write_private(path: Path, text: str) -> None:
    """Mode 600 from its first byte on; replaced in one step."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)


def read_json(path: Path) -> Any:
    """None where there is no such file, or not a whole one."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write_pid(folder: Path, name: str, started: float) -> None:
    write_json(folder / f"{name}.pid", {"pid": os.getpid(), "started": started})
