"""Draws the results: `plot.py results.json results.svg`, run by the environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt


def draw(results: dict[str, Any], into: Path) -> None:
    """One panel for each workload, one bar for each contender: the median, and a line from the least to the most."""
    panels = [panel for panel in results["summary"] if panel["rows"]]
    heights = [len(panel["rows"]) + 1.5 for panel in panels]
    figure, axes = plt.subplots(
        len(panels), figsize=(9, 0.32 * sum(heights)), squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        rows = panel["rows"][::-1]
        middles = [row["median"] for row in rows]
        reach = [[row["median"] - row["least"] for row in rows], [row["most"] - row["median"] for row in rows]]
        colours = ["#1b7f5c" if row["ours"] else "#9aa3ad" for row in rows]
        axis.barh([row["title"] for row in rows], middles, xerr=reach, color=colours, ecolor="#444", capsize=2)
        axis.set_title(f"{panel['title']}\n{panel['heading']}", fontsize=8, loc="left")
        if max(middles) > 20 * min(middles) > 0:
            axis.set_xscale("log")
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(into)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
