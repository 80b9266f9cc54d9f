"""What docs/decisions.md says is tested, is."""

import re

import pytest
from baked_project import TEMPLATE

DECISIONS = (TEMPLATE / "docs" / "decisions.md").read_text(encoding="utf-8")
TESTS = TEMPLATE / "{{cookiecutter.project_slug}}" / "tests"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+(?:\.py)?)`", DECISIONS))))
def test_a_test_that_a_decision_names_is_there(name: str) -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")}
    if name.endswith(".py"):
        assert name in files
    else:
        assert any(re.search(rf"^(async )?def {name}\(", text, re.MULTILINE) for text in files.values())
