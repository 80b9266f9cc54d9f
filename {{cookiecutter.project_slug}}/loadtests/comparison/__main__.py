"""`python -m loadtests.comparison A.json B.json`: a table here, and a page beside B."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..pages import document
from . import page
from .difference import Unreadable, compare, read
from .table import render

PAGE = "difference.html"
USAGE = "Which two reports? make report-diff A=before.json B=loadtests/reports/latest.json"


def main() -> int:
    if len(sys.argv) != 3:
        print(USAGE, file=sys.stderr)
        return 2
    before, after = sys.argv[1:]
    try:
        found = compare(read(Path(before)), read(Path(after)), names=(before, after))
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    picture = Path(after).with_name(PAGE)
    document.write(page.render(found), picture)
    print(f"{render(found)}\n\nReport: {os.path.relpath(picture)}")
    return 0


sys.exit(main())
