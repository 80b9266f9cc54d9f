"""The load test against a real stack: it passes where the workers share a log, and fails where they do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from deploy.settings import PROJECT_ROOT
from tests.e2e.project_copy import ProjectCopy

DEADLINE_SECONDS = 90
WORKERS = ("chat-1", "chat-2")
USERS = 24
MESSAGES = 200


def loadtest(project: ProjectCopy, folder: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """A small load test of the project's running stack: the process when it has ended, and its report."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("CHAT_", "LOADTEST_"))}
    secrets = {name: value or "" for name, value in dotenv_values(project.root / ".env").items()}
    settings = {
        "CHAT_PORT": str(project.base_port),
        "CHAT_WORKERS": str(len(WORKERS)),
        "LOADTEST_USERS": str(USERS),
        "LOADTEST_ROOMS": "4",
        "LOADTEST_RATE": str(MESSAGES / 2),
        "LOADTEST_DURATION_SECONDS": "2",
        "LOADTEST_P99_MS": "5000",
        "LOADTEST_REPORT": str(folder / "report.json"),
        "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT / "src"), str(PROJECT_ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "loadtests"],
        cwd=PROJECT_ROOT,
        env=outside | secrets | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    return done, json.loads((folder / "report.json").read_text("utf-8"))


def test_a_stack_whose_workers_share_the_log_passes(stack: ProjectCopy, tmp_path: Path) -> None:
    done, report = loadtest(stack, tmp_path)
    assert done.returncode == 0, done.stdout
    assert "PASSED" in done.stdout
    assert report["totals"]["ratio"] == 1
    assert report["totals"]["acknowledged"] == MESSAGES
    assert report["totals"]["expected"] == MESSAGES * USERS // 4
    assert len(report["matrix"]) == len(WORKERS) ** 2
    assert all(cell["expected"] == cell["delivered"] > 0 for cell in report["matrix"])
    assert report["connections"]["sticky_ratio"] == 1


def test_a_stack_whose_workers_share_no_log_fails_and_the_gaps_are_named(project: ProjectCopy, tmp_path: Path) -> None:
    up = project.run("up", CHAT_BROKER_URL="memory://")
    assert up.returncode == 0, up.stdout + up.stderr
    done, report = loadtest(project, tmp_path)
    assert done.returncode == 1, done.stdout
    cells = {(cell["origin"], cell["receiver"]): cell for cell in report["matrix"]}
    for worker, other in (WORKERS, WORKERS[::-1]):
        assert cells[worker, worker]["delivered"] == cells[worker, worker]["expected"] > 0
        assert cells[worker, other]["delivered"] == 0
        missing = cells[worker, other]["missing"]
        assert missing == cells[worker, other]["expected"] > 0
        assert f"{worker} → {other}: {missing:,} of {missing:,} missing: nothing arrives there" in done.stdout
        example = cells[worker, other]["missing_examples"][0]
        assert example["topic"].startswith("room/")
        assert example["user"].startswith("load-")
    assert "the workers do not share a log" in done.stdout
