"""What is different between two load tests. Pure, but for `read`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..report import SCHEMA, Percentiles, Report

NOISE = 0.05
"""A difference of so little is called none."""


class Unreadable(Exception):
    """There is no report of this version in the file; the text says why."""


@dataclass(frozen=True)
class Figure:
    """One number of both runs, `None` where it was not measured."""

    name: str
    before: float | None
    after: float | None
    digits: int
    more_is_better: bool

    @property
    def change(self) -> float | None:
        """0.1 is 10 % more."""
        if self.before is None or self.after is None or not self.before:
            return None
        return self.after / self.before - 1

    @property
    def judgement(self) -> str:
        """better, worse, or nothing where the difference is noise."""
        if self.before is None or self.after is None or self.before == self.after:
            return ""
        if self.change is not None and abs(self.change) < NOISE and self.digits:
            return ""
        return "better" if (self.after > self.before) is self.more_is_better else "worse"


@dataclass(frozen=True)
class Changed:
    """A setting, a version or a fact of the machine that was not the same."""

    what: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    names: tuple[str, str]
    outcomes: tuple[str, str]
    began: tuple[str, str]
    figures: list[Figure]
    changed: list[Changed]


def read(path: Path) -> Report:
    """Raises `Unreadable`."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise Unreadable(f"There is no file {path}.") from None
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise Unreadable(f"{path} is not JSON.") from None
    if not isinstance(content, dict) or not {"schema", "totals", "matrix"} <= content.keys():
        raise Unreadable(f"{path} is not a report of `make loadtest`.")
    if content["schema"] != SCHEMA:
        raise Unreadable(f"{path} is a report of version {content['schema']}; this program reads version {SCHEMA}.")
    if missing := Report.__required_keys__ - content.keys():
        raise Unreadable(f"{path} is not a whole report: it has no {', '.join(sorted(missing))}.")
    return cast(Report, content)


def compare(before: Report, after: Report, *, names: tuple[str, str]) -> Comparison:
    one, other = _figures(before), _figures(after)
    return Comparison(
        names=names,
        outcomes=(before["verdict"]["outcome"], after["verdict"]["outcome"]),
        began=(before["started_at"], after["started_at"]),
        figures=[
            Figure(name, value, other[name][0], digits, more_is_better)
            for name, (value, digits, more_is_better) in one.items()
        ],
        changed=[
            *_changed("setting", before["settings"], after["settings"]),
            *_changed("version", before["versions"], after["versions"]),
            *_changed("machine", before["machine"], after["machine"]),
            *_changed("workers", {"count": len(before["workers"])}, {"count": len(after["workers"])}),
        ],
    )


def _figures(report: Report) -> dict[str, tuple[float | None, int, bool]]:
    """Name → (value, decimal digits, whether more is better)."""
    totals, timeline = report["totals"], report["timeline"]
    seconds = timeline[-1]["at_seconds"] if timeline else None
    found: dict[str, tuple[float | None, int, bool]] = {
        "missing deliveries": (totals["missing"], 0, False),
        "delivered twice": (totals["duplicates"], 0, False),
        "out of order": (totals["out_of_order"], 0, False),
        "messages sent per second": (totals["sent"] / seconds if seconds else None, 1, True),
        "deliveries per second": (totals["delivered"] / seconds if seconds else None, 1, True),
    }
    parts: tuple[tuple[str, Percentiles], ...] = (
        ("to the same worker", report["same_worker"]),
        ("to another worker", report["other_worker"]),
        ("send until ack", report["acknowledge"]),
        ("connect", report["connect"]),
        ("generator's own lag", report["generator"]["lag_ms"]),
    )
    for name, part in parts:
        for label, value in (("p50", part["p50"]), ("p95", part["p95"]), ("p99", part["p99"]), ("max", part["max"])):
            found[f"{name}, {label} ms"] = (value, 1, False)
    found["generator, % of a core"] = (100 * report["generator"]["cpu"], 1, False)
    return found


def _changed(what: str, before: Mapping[str, object], after: Mapping[str, object]) -> list[Changed]:
    return [
        Changed(what, name, str(before.get(name, "–")), str(after.get(name, "–")))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    ]
