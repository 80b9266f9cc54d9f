"""The documents of the project, taken apart: what they link to, and what they say to type."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.service import ROOT

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<(https?:[^>]+)>|\b(?:href|src|srcset)=\"([^\"]+)\"")

NOT_RUN = {
    "make lint": "a run of its own beside the tests",
    "make test": "it is what runs this",
    "make chaos": "it takes minutes: test_chaos.py",
    "make compare": "of the template, and it takes minutes",
    "docker": "needs an engine: test_containers.py, test_monitoring.py",
}
"""Commands, by how they begin, that no test types as they stand in a document; and why."""

DOCUMENTS_NOT_RUN = {"deploy/kubernetes/README.md": "needs a cluster: test_kubernetes.py checks what that would get"}


def documents() -> list[Path]:
    patterns = ("*.md", "docs/**/*.md", "deploy/**/*.md", "loadtests/*.md")
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def links(text: str) -> list[str]:
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    return [next(filter(None, found)) for found in _LINK.findall(prose)]


def code(text: str) -> Iterator[str]:
    """What stands between backticks in prose."""
    yield from re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """Those that the headings get, as GitHub and others make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands(text: str) -> list[str]:
    """What the blocks of `sh` say to type, one command each, without the remarks behind them."""
    found = []
    for fence in FENCE.finditer(text):
        if fence["language"] == "sh":
            lines = fence["code"].replace("\\\n", " ").splitlines()
            found += [re.sub(r" +# .*", "", line).strip() for line in lines if line.strip()]
    return found


def commands_to_run(document: Path) -> list[str]:
    """Those of a document that a test can type."""
    if name_of(document) in DOCUMENTS_NOT_RUN:
        return []
    return [one for one in commands(document.read_text("utf-8")) if not one.startswith(tuple(NOT_RUN))]
