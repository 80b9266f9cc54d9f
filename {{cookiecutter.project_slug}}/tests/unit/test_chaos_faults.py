"""Whether a fault happened at all, and that a container which was struck is made well again, whoever asks to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtests.chaos.container_stack import _undone_after
from loadtests.chaos.faults import why_in_doubt
from loadtests.chaos.schedule import FaultName
from loadtests.chaos.stack import FaultFailed
from tests.deadline import eventually


@pytest.mark.parametrize(
    ("fault", "felt", "doubt"),
    [
        (FaultName.KILL_WORKER, {"lost": 1}, None),
        (FaultName.KILL_WORKER, {"lost": 0}, "every client kept its connection"),
        (FaultName.FREEZE_REDIS, {"longest_wait_ms": 5000}, None),
        (FaultName.FREEZE_REDIS, {"longest_wait_ms": 4999}, "nobody had to wait for longer than 5.0 s"),
        (FaultName.PARTITION_WORKER, {"longest_wait_ms": 40}, "nobody had to wait for longer than 0.0 s"),
        (FaultName.PARTITION_WORKER, {"longest_wait_ms": 40, "messages": 39}, None),
        (FaultName.RESTART_REDIS, {}, None),
    ],
)
def test_a_fault_that_nobody_felt_is_doubted(fault: FaultName, felt: dict[str, int], doubt: str | None) -> None:
    said = {"seconds": 10, "messages": 400, "lost": 0, "longest_wait_ms": 40, **felt}
    assert why_in_doubt(fault, **said) == doubt


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `docker` that notes what it has done; `pause` is not done before the file `go` is there, and fails without."""
    script = tmp_path / "docker"
    script.write_text(
        f"""#!/bin/sh
cd {tmp_path}
[ "$1" != fail ] || exit 1
if [ "$1" = pause ]; then : >begun; while [ ! -e go ]; do sleep 0.01; done; fi
echo "$@" >>done
"""
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def done(engine: Path) -> list[str]:
    return (engine / "done").read_text().splitlines()


async def test_what_was_struck_is_made_well_again(engine: Path) -> None:
    (engine / "go").touch()
    async with _undone_after(["pause", "redis"], ["unpause", "redis"]):
        assert done(engine) == ["pause redis"]
    assert done(engine) == ["pause redis", "unpause redis"]


async def test_also_when_it_is_cancelled_while_the_engine_is_at_it(engine: Path) -> None:
    async def strike() -> None:
        async with _undone_after(["pause", "redis"], ["unpause", "redis"]):
            raise AssertionError("it goes on although it was cancelled")

    striking = asyncio.create_task(strike())
    await eventually(lambda: (engine / "begun").exists())
    striking.cancel()
    (engine / "go").touch()
    with pytest.raises(asyncio.CancelledError):
        await striking
    assert done(engine) == ["pause redis", "unpause redis"]


async def test_what_could_not_be_done_is_not_undone(engine: Path) -> None:
    with pytest.raises(FaultFailed, match="`docker fail` ended with 1"):
        async with _undone_after(["fail"], ["unpause", "redis"]):
            raise AssertionError("it goes on although nothing was struck")
    assert not (engine / "done").exists()
