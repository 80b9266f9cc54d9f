"""`Results`: what was measured, as JSON, as Markdown tables and as a plot; several runs can be put together."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from . import report, runtimes, targets
from .bench import DIRECT, Measurement
from .contender import load_all
from .workloads import WORKLOADS, Workload


@dataclass
class Results:
    facts: dict[str, str]
    """About the machine and the run, in the order in which they are shown."""
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of what each contender is made."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Contenders that cannot run here, and why."""
    measurements: list[Measurement] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Raises `OSError`, `ValueError`, `KeyError` or `TypeError` for a file that `save` did not write."""
        stored = json.loads(file.read_text())
        measurements = [Measurement(**one) for one in stored["measurements"]]
        return cls(stored["facts"], stored["versions"], stored["skipped"], measurements)

    @classmethod
    def merged(cls, runs: Sequence[Self]) -> Self:
        """All measurements of several runs. A fact on which they differ names each."""
        facts: dict[str, str] = {}
        for name in dict.fromkeys(name for run in runs for name in run.facts):
            facts[name] = "; ".join(dict.fromkeys(run.facts[name] for run in runs if name in run.facts))
        measurements = [one for run in runs for one in run.measurements]
        there = {one.contender for one in measurements}
        return cls(
            facts,
            {name: made_of for run in runs for name, made_of in run.versions.items()},
            {name: why for run in runs for name, why in run.skipped.items() if name not in there},
            measurements,
        )

    @property
    def workloads(self) -> list[Workload]:
        there = {one.workload for one in self.measurements}
        return [one for one in WORKLOADS if one.name in there]

    def summary(self) -> list[dict[str, Any]]:
        """What the plot shows."""
        titles = titles_of_all()
        panels: list[dict[str, Any]] = []
        for workload in self.workloads:
            main = workload.figures[0]
            panel_rows = []
            for contender, ones in report.rows(workload, self.measurements).items():
                values = [one.figures[main.name] * main.scale for one in ones if one.figures]
                if values:
                    spread = report.spread(values)
                    panel_rows.append(
                        {
                            "contender": contender,
                            "title": titles[contender],
                            "ours": contender.startswith("template"),
                            "median": spread.middle,
                            "least": spread.least,
                            "most": spread.most,
                        }
                    )
            panels.append({"title": workload.title, "heading": main.heading, "rows": panel_rows})
        return panels

    def markdown(self) -> str:
        skipped = {name: why.splitlines()[0] for name, why in self.skipped.items()}
        gateways = {one.name for one in load_all() if one.behind}
        tables = [
            report.table(
                workload,
                self.measurements,
                titles_of_all(),
                {name: why for name, why in skipped.items() if (name in gateways) == workload.gateway},
            )
            for workload in self.workloads
        ]
        facts = "\n".join(f"- {name}: {fact}" for name, fact in self.facts.items())
        tables.insert(0, targets.table(self.measurements))
        return f"# The template and its peers\n\n{facts}\n\n" + "\n".join(tables)

    def save(self, stem: Path) -> Path:
        """Write JSON and Markdown, whole or not at all. Returns the Markdown file."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        stored = {
            "facts": self.facts,
            "versions": self.versions,
            "skipped": self.skipped,
            "summary": self.summary(),
            "measurements": [dataclasses.asdict(one) for one in self.measurements],
        }
        replace(stem.with_suffix(".json"), json.dumps(stored, indent=1) + "\n")
        replace(stem.with_suffix(".md"), self.markdown() + f"\n![the same as bars]({stem.name}.svg)\n")
        return stem.with_suffix(".md")


def draw(stem: Path) -> None:
    """The plot of what is stored there, as SVG."""
    plot = [str(runtimes.PYTHON), str(Path(__file__).parent / "plot.py")]
    plot += [str(stem.with_suffix(".json")), str(stem.with_suffix(".svg"))]
    drawn = subprocess.run(plot, capture_output=True, text=True)
    if drawn.returncode != 0:
        print(f"the plot could not be drawn: {drawn.stderr.strip().splitlines()[-1]}", file=sys.stderr)


def titles_of_all() -> dict[str, str]:
    return {one.name: one.title for one in load_all()} | {DIRECT: "no gateway: straight to the worker"}


def replace(file: Path, text: str) -> None:
    new = file.with_name(file.name + ".new")
    new.write_text(text)
    new.replace(file)
