"""The chaos run on the stack in containers, shortened: the engine kills, pauses and cuts off, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.e2e.project_copy import ProjectCopy

FAULTS = ("kill-worker", "freeze-redis", "partition-worker")


def test_nothing_is_lost_and_every_fault_has_a_row(containers: ProjectCopy) -> None:
    small = {"FAULTS": ",".join(FAULTS), "FAULT_SECONDS": "8", "SEED": "1", "USERS": "24", "ROOMS": "4"}
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("CHAT_", "CHAOS_"))}
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.chaos"],
        cwd=containers.root,
        env=outside
        | {"PYTHONPATH": str(containers.root / "src")}
        | {f"CHAOS_{name}": value for name, value in small.items()},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((containers.root / "loadtests" / "reports" / "chaos.json").read_text("utf-8"))
    rows = {row["fault"]: row for row in report["rows"]}
    assert set(rows) == set(FAULTS)
    for row in rows.values():
        assert row["hit"] > 0
        assert row["sent"] == row["acknowledged"] > 0
        assert (row["lost"], row["duplicated"], row["out_of_order"], row["unrecovered"]) == (0, 0, 0, 0)
    assert rows["kill-worker"]["recovered"] >= rows["kill-worker"]["lost_connection"] > 0
    for fault in ("freeze-redis", "partition-worker"):
        assert rows[fault]["back_ms"]["max"] > 4000, "what was said meanwhile waits until Redis is reached again"
    assert containers.run("ps").returncode == 0
