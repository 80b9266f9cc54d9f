"""What the page knows and does without a browser, run by Node's own test runner."""

import shutil
import subprocess

import pytest

from tests.service import ROOT


@pytest.mark.parametrize("part", ["room", "chat", "elements"])
def test_the_page_in_javascript(part: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not there")
    command = [node, "--test", str(ROOT / "tests" / "web" / f"{part}.test.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
