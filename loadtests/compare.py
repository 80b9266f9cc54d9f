"""The worker and the gateway of this template against their peers, on one pinned core each: `make compare`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from . import machine, report, runtimes
from .bench import DIRECT, FULL, QUICK, Bench, Measurement
from .contender import Contender, load_all
from .stack import Cores, choose_cores
from .workloads import WORKLOADS, Kind, Workload

RESULTS = Path(__file__).parent / "results"


class Comparison:
    """What was measured so far; can be written at any time."""

    def __init__(self, contenders: Sequence[Contender], workloads: Sequence[Workload], cores: Cores) -> None:
        self.contenders = contenders
        self.workloads = workloads
        self.measurements: list[Measurement] = []
        self.skipped: dict[str, str] = {}
        self.started = datetime.now(UTC)
        self.machine = machine.describe(cores)
        self._ticks = machine.stolen_and_total_ticks()
        self.titles = {one.name: one.title for one in contenders} | {DIRECT: "no gateway: straight to the worker"}

    def plan(self, workload: Workload) -> list[Contender | None]:
        """Who takes part in a workload; `None` is the way without a gateway."""
        chosen: list[Contender | None] = [one for one in self.contenders if bool(one.behind) == workload.gateway]
        if workload.gateway and workload.kind is Kind.FIXED and chosen:
            chosen.append(None)
        return [one for one in chosen if one is None or one.name not in self.skipped]

    def hint(self, contender: str, workload: Workload) -> float | None:
        """Where an earlier round ended, a little lower."""
        rates = [
            one.figures["messages_per_second"]
            for one in self.measurements
            if (one.contender, one.workload) == (contender, workload.name) and "messages_per_second" in one.figures
        ]
        return 0.7 * rates[-1] if rates else None

    def summary(self) -> list[dict[str, Any]]:
        panels: list[dict[str, Any]] = []
        for workload in self.workloads:
            found = report.rows(workload, self.measurements)
            main = workload.figures[0]
            panel_rows = []
            for contender, ones in found.items():
                values = [one.figures[main.name] * main.scale for one in ones if one.figures]
                if values:
                    spread = report.spread(values)
                    panel_rows.append(
                        {
                            "contender": contender,
                            "title": self.titles[contender],
                            "ours": contender.startswith("template"),
                            "median": spread.middle,
                            "least": spread.least,
                            "most": spread.most,
                        }
                    )
            panels.append({"title": workload.title, "heading": main.heading, "rows": panel_rows})
        return panels

    def facts(self) -> dict[str, str]:
        stolen, total = (now - then for now, then in zip(machine.stolen_and_total_ticks(), self._ticks, strict=True))
        return {
            "date": f"{self.started:%Y-%m-%d %H:%M} UTC",
            "command": "python -m loadtests.compare " + shlex.join(sys.argv[1:]),
            **self.machine,
            "CPU time taken by the host": f"{stolen / max(1, total):.1%}",
            "Redis": runtimes.first_line(runtimes.redis_server(), "--version"),
            "template": runtimes.first_line("git", "-C", str(runtimes.ROOT), "describe", "--always", "--dirty"),
        }

    def markdown(self) -> str:
        skipped = {name: why.splitlines()[0] for name, why in self.skipped.items()}
        gateways = {one.name for one in self.contenders if one.behind}
        tables = [
            report.table(
                workload,
                self.measurements,
                self.titles,
                {name: why for name, why in skipped.items() if (name in gateways) == workload.gateway},
            )
            for workload in self.workloads
        ]
        facts = "\n".join(f"- {name}: {fact}" for name, fact in self.facts().items())
        return f"# The template and its peers\n\n{facts}\n\n" + "\n".join(tables)

    def write(self, folder: Path) -> Path:
        """Write JSON, Markdown and SVG. Returns the Markdown file."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{self.started:%Y-%m-%d-%H%M}"
        measured = {
            "facts": self.facts(),
            "versions": {one.name: runtimes.versions(one) for one in self.contenders if one.name not in self.skipped},
            "skipped": self.skipped,
            "summary": self.summary(),
            "measurements": [dataclasses.asdict(one) for one in self.measurements],
        }
        stem.with_suffix(".json").write_text(json.dumps(measured, indent=1) + "\n")
        stem.with_suffix(".md").write_text(self.markdown() + f"\n![the same as bars]({stem.name}.svg)\n")
        plot = [str(runtimes.PYTHON), str(Path(__file__).parent / "plot.py")]
        plot += [str(stem.with_suffix(".json")), str(stem.with_suffix(".svg"))]
        drawn = subprocess.run(plot, capture_output=True, text=True)
        if drawn.returncode != 0:
            print(f"the plot could not be drawn: {drawn.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return stem.with_suffix(".md")


def run(comparison: Comparison, bench: Bench, rounds: int) -> None:
    """Every contender in every workload, round by round, so that what changes on the machine changes for all."""
    for number in range(1, rounds + 1):
        for workload in comparison.workloads:
            for contender in comparison.plan(workload):
                name = contender.name if contender else DIRECT
                print(f"\nround {number} of {rounds}, {workload.name}, {name}", flush=True)
                measurement = bench.measure(contender, workload, comparison.hint(name, workload))
                comparison.measurements.append(measurement)
                if measurement.failure:
                    print(f"  no figures: {measurement.failure}", flush=True)


def chosen(names: str, known: Sequence[str], what: str) -> list[str]:
    wanted = [name for name in names.replace(",", " ").split() if name]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SystemExit(f"unknown {what}: {', '.join(unknown)}; known: {', '.join(known)}")
    return wanted or list(known)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    everybody = load_all()
    parser = argparse.ArgumentParser(prog="python -m loadtests.compare", description=__doc__)
    parser.add_argument("--contenders", default="", help=f"of: {', '.join(one.name for one in everybody)}")
    parser.add_argument("--workloads", default="", help=f"of: {', '.join(one.name for one in WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=0, help="3, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="short steps and few connections: to see that it works")
    options = parser.parse_args()
    names = chosen(options.contenders, [one.name for one in everybody], "contenders")
    kinds = chosen(options.workloads, [one.name for one in WORKLOADS], "workloads")
    rounds = options.rounds or (1 if options.quick else 3)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        cores = choose_cores()
        client = runtimes.compile_client()
        runtimes.install_python()
    except (runtimes.Missing, subprocess.CalledProcessError) as exc:
        print(exc, file=sys.stderr)
        return 2

    contenders = [one for one in everybody if one.name in names]
    comparison = Comparison(contenders, [one for one in WORKLOADS if one.name in kinds], cores)
    for one in contenders:
        why = runtimes.reason_to_skip(one)
        if why is not None:
            comparison.skipped[one.name] = why
            print(f"skipping {one.name}: {why}", flush=True)
    if machine.is_noisy():
        print("something else is running on this machine: the figures will say less", flush=True)

    bench = Bench(
        cores,
        runtimes.BUILD / "run",
        client,
        QUICK if options.quick else FULL,
        lambda text: print(f"  {text}", flush=True),
    )
    status = 0
    try:
        run(comparison, bench, rounds)
    except KeyboardInterrupt:
        print("\ninterrupted; what was measured so far:", flush=True)
        status = 130
    if comparison.measurements:
        written = comparison.write(runtimes.BUILD / "results" if options.quick or status else RESULTS)
        print(f"\n{written.read_text()}\nwritten to {written.relative_to(runtimes.ROOT)}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
