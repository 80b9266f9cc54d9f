"""The chaos run against a real stack, shortened: it passes, it fails where nobody recovers, and Ctrl-C undoes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import records
from deploy.local.status import rows
from tests.e2e.project_copy import ProjectCopy, copy_project, wait_until

DEADLINE_SECONDS = 90


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectCopy]:
    """Runs, with two workers that drain for five seconds."""
    project = copy_project(tmp_path_factory.mktemp("chaos") / "project", CHAT_DRAIN_SECONDS="5")
    project.up()
    yield project
    done = project.run("down")
    assert done.returncode == 0, done.stdout + done.stderr


def start(project: ProjectCopy, **settings: str) -> subprocess.Popen[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("CHAT_", "CHAOS_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "loadtests.chaos"],
        cwd=project.root,
        env=outside | {"PYTHONPATH": str(project.root / "src"), "CHAOS_USERS": "24", "CHAOS_ROOMS": "4"} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(project: ProjectCopy, process: subprocess.Popen[str]) -> tuple[str, dict[str, Any]]:
    """What it printed, and its report."""
    try:
        printed, _ = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
    return printed, json.loads((project.root / "loadtests" / "reports" / "chaos.json").read_text("utf-8"))


def test_nothing_is_lost_and_every_fault_has_a_row(stack: ProjectCopy) -> None:
    faults = {"kill-worker", "freeze-redis", "cut-worker", "drop-clients"}
    process = start(stack, CHAOS_FAULTS=",".join(faults), CHAOS_FAULT_SECONDS="3", CHAOS_SEED="7")
    printed, report = finish(stack, process)
    assert process.returncode == 0, printed
    assert "PASSED" in printed
    rows = {row["fault"]: row for row in report["rows"]}
    assert set(rows) == faults
    for row in rows.values():
        assert row["hit"] > 0
        assert row["sent"] == row["acknowledged"] > 0
        assert (row["lost"], row["duplicated"], row["out_of_order"], row["unrecovered"]) == (0, 0, 0, 0)
    assert rows["kill-worker"]["recovered"] >= rows["kill-worker"]["lost_connection"] > 0
    assert rows["freeze-redis"]["back_ms"]["max"] > 2000, "an ack waits for as long as Redis is frozen"


def test_without_recovery_the_missing_messages_are_named(stack: ProjectCopy) -> None:
    process = start(stack, CHAOS_FAULTS="kill-worker", CHAOS_RECOVERY="off", CHAOS_RATE="100")
    printed, report = finish(stack, process)
    assert process.returncode == 1, printed
    (row,) = report["rows"]
    assert row["lost"] > 0
    assert (row["duplicated"], row["out_of_order"]) == (0, 0)
    example = row["missing_examples"][0]
    assert f"{row['lost']:,} deliveries lost: {example['topic']} {example['position']} for {example['user']}" in printed


def test_ctrl_c_thaws_redis_and_shows_what_was_measured(stack: ProjectCopy) -> None:
    process = start(stack, CHAOS_FAULTS="freeze-redis", CHAOS_FAULT_SECONDS="60")
    assert process.stdout is not None
    while "is frozen" not in (line := process.stdout.readline()):
        assert line, "it ended before Redis was frozen"
    process.send_signal(signal.SIGINT)
    printed, report = finish(stack, process)
    assert process.returncode == 130, printed
    assert "INTERRUPTED" in printed
    assert [row["fault"] for row in report["rows"]] == ["freeze-redis"]
    redis = records.live_process(stack.root, "redis")
    assert redis is not None
    assert redis.status() != psutil.STATUS_STOPPED
    assert stack.run("ps").returncode == 0


def test_ctrl_c_while_a_worker_restarts_brings_it_back(stack: ProjectCopy) -> None:
    process = start(stack, CHAOS_FAULTS="roll-workers")
    wait_until(lambda: any(row.state == "stopping" for row in rows(stack.root)), "a worker drains")
    process.send_signal(signal.SIGINT)
    printed, _ = finish(stack, process)
    assert process.returncode == 130, printed
    assert "did not come back" not in printed
    assert stack.run("ps").returncode == 0


def test_where_nothing_runs_it_says_so(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    process = start(project)
    printed, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 2
    assert "`make up` starts one" in printed
