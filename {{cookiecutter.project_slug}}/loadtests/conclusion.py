"""What a run ends with, in however many processes it was made: the verdict, the report, the table."""

from __future__ import annotations

from . import page, report, table
from .circumstances import machine, versions
from .part import Beat, Part
from .publish import publish
from .report import ProcessFigures, Second
from .settings import Settings
from .verdict import judge


def conclude(found: Part, settings: Settings, *, interrupted: bool, started_at: str, processes: ProcessFigures) -> int:
    """Judge, write the files, print. Returns the exit code."""
    verdict = judge(
        found.audit,
        found.connections,
        found.generator,
        workers=settings.workers,
        p99_ms=settings.p99_ms,
        interrupted=interrupted,
    )
    written = report.build(
        verdict=verdict,
        audit=found.audit,
        connections=found.connections,
        generator=found.generator,
        lag=found.lag,
        connect=found.connect,
        acknowledge=found.acknowledge,
        timeline=[second(beat) for beat in found.timeline],
        processes=processes,
        started_at=started_at,
        workers=settings.workers,
        settings=settings.circumstances(),
        versions=versions("locust", "gevent", "websockets"),
        machine=machine(),
    )
    publish(written, page.render(written, settings.report.name), table.render(written), settings.report)
    return verdict.outcome.exit_code


def second(beat: Beat) -> Second:
    return Second(
        at_seconds=beat.at_seconds,
        sent=beat.sent,
        acknowledged=beat.acknowledged,
        delivered=beat.delivered,
        same_worker=report.percentiles(beat.same),
        other_worker=report.percentiles(beat.other),
        generator_cpu=beat.generator_cpu,
        machine_cpu=beat.machine_cpu,
    )
