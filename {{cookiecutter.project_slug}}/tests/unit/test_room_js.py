"""The page's idea of a room, run by Node's own test runner."""

import shutil
import subprocess

import pytest

from tests.service import ROOT


def test_a_room_keeps_its_messages_in_order_and_counts_what_is_unread() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not there")
    command = [node, "--test", str(ROOT / "tests" / "web" / "room.test.mjs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
