"""Which metrics the alerts and the dashboard of `deploy/monitoring` look at."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.service import ROOT

FOLDER = ROOT / "deploy" / "monitoring"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "chat.json"

_STRINGS = re.compile(r'"[^"]*"')
_LABEL_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w$.])([a-z_][a-z0-9_]*)(?!\s*\()\b(?![\w(=!~])")
_WORDS = frozenset(("and", "or", "unless", "by", "without", "bool", "offset"))


def read_yaml(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return value


def alerts() -> list[dict[str, Any]]:
    return [rule for group in read_yaml(FOLDER / "alerts.yml")["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"] if panel["type"] != "row"]


def names_in(expression: str) -> set[str]:
    """The metrics that a PromQL expression names."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", _LABEL_LISTS.sub("", _STRINGS.sub("", expression)))
    return {name for name in _NAME.findall(bare) if name not in _WORDS}


EXPRESSIONS = [
    *((f"alert {rule['alert']}", rule["expr"]) for rule in alerts()),
    *((f"panel {panel['title']}", target["expr"]) for panel in panels() for target in panel["targets"]),
]
