"""`publish`: the end of a run that is worth showing."""

from __future__ import annotations

import os
from pathlib import Path

from .pages import document
from .report import write_json


def publish(written: object, picture: str, text: str, path: Path) -> None:
    """The report goes to `path` as JSON, its page, HTML, beside it, and the text to the terminal."""
    write_json(written, path)
    beside = path.with_suffix(".html")
    document.write(picture, beside)
    print(f"\n{text}\n\nReport: {os.path.relpath(beside)}", flush=True)
