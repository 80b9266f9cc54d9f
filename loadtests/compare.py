"""The worker and the gateway of this template against their peers, on one pinned core each: `make compare`."""

from __future__ import annotations

import argparse
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from . import machine, runtimes
from .bench import DIRECT, FULL, QUICK, Bench, Measurement
from .contender import Contender, load_all
from .results import Results, draw
from .stack import Cores, choose_cores
from .workloads import WORKLOADS, Kind, Workload

RESULTS = Path(__file__).parent / "results"


class Comparison:
    """What was measured so far; stored after each measurement."""

    def __init__(
        self, contenders: Sequence[Contender], workloads: Sequence[Workload], cores: Cores, folder: Path
    ) -> None:
        self.contenders = contenders
        self.workloads = workloads
        self.skipped: dict[str, str] = {}
        self._ticks = machine.stolen_and_total_ticks()
        started = datetime.now(UTC)
        self.stem = folder / f"{started:%Y-%m-%d-%H%M%S}"
        self.results = Results(
            {
                "date": f"{started:%Y-%m-%d %H:%M} UTC",
                "command": "python -m loadtests.compare " + shlex.join(sys.argv[1:]),
                **machine.describe(cores),
                "Redis": runtimes.first_line(runtimes.redis_server(), "--version"),
                "template": runtimes.first_line("git", "-C", str(runtimes.ROOT), "describe", "--always", "--dirty"),
            },
            skipped=self.skipped,
        )

    def prepare(self) -> None:
        """Find out who can run here."""
        for one in self.contenders:
            why = runtimes.reason_to_skip(one)
            if why is None:
                self.results.versions[one.name] = runtimes.versions(one)
            else:
                self.skipped[one.name] = why
                print(f"skipping {one.name}: {why}", flush=True)

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
            for one in self.results.measurements
            if (one.contender, one.workload) == (contender, workload.name) and "messages_per_second" in one.figures
        ]
        return 0.7 * rates[-1] if rates else None

    def add(self, measurement: Measurement) -> None:
        """From now on an interruption does not lose it."""
        self.results.measurements.append(measurement)
        stolen, total = (now - then for now, then in zip(machine.stolen_and_total_ticks(), self._ticks, strict=True))
        self.results.facts["CPU time taken by the host"] = f"{stolen / max(1, total):.1%}"
        self.results.save(self.stem)


def run(comparison: Comparison, bench: Bench, rounds: int) -> None:
    """Every contender in every workload, round by round, so that what changes on the machine changes for all."""
    for number in range(1, rounds + 1):
        for workload in comparison.workloads:
            for contender in comparison.plan(workload):
                name = contender.name if contender else DIRECT
                print(f"\nround {number} of {rounds}, {workload.name}, {name}", flush=True)
                measurement = bench.measure(contender, workload, comparison.hint(name, workload))
                comparison.add(measurement)
                if measurement.failure:
                    print(f"  no figures: {measurement.failure}", flush=True)


def merge(files: Sequence[Path]) -> int:
    """One table out of several runs, beside the last of them."""
    try:
        results = Results.merged([Results.read(file) for file in files])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        print(f"no results of a comparison: {exc!r}", file=sys.stderr)
        return 2
    show(results.save(files[-1].with_name(files[-1].stem + "-merged")))
    return 0


def show(written: Path) -> None:
    draw(written.with_suffix(""))
    print(f"\n{written.read_text()}\nwritten to {written}", flush=True)


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
    parser.add_argument(
        "--merge", nargs="+", type=Path, metavar="JSON", help="put stored runs together, measure nothing"
    )
    options = parser.parse_args()
    if options.merge:
        return merge(options.merge)
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
    comparison = Comparison(
        contenders,
        [one for one in WORKLOADS if one.name in kinds],
        cores,
        runtimes.BUILD / "results" if options.quick else RESULTS,
    )
    comparison.prepare()
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
    if comparison.results.measurements:
        show(comparison.results.save(comparison.stem))
    return status


if __name__ == "__main__":
    sys.exit(main())
