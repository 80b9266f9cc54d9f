"""The targets of the comparison, and results that are stored, read again and put together."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import targets
from loadtests.bench import Measurement
from loadtests.contender import FOLDER, load_all
from loadtests.results import Results
from loadtests.targets import TARGETS, Medians, Target, Unknown
from loadtests.workloads import WORKLOADS


def measured(contender: str, workload: str, **figures: float) -> Measurement:
    return Measurement(contender, workload, dict.fromkeys(figure_names(workload), 1.0) | figures)


def figure_names(workload: str) -> list[str]:
    return [figure.name for one in WORKLOADS if one.name == workload for figure in one.figures]


def target(title: str) -> Target:
    (found,) = (one for one in TARGETS if one.title.startswith(title))
    return found


def test_a_target_is_met_or_not_by_the_medians_of_the_rounds() -> None:
    rounds = [measured("template", "one_room", deliveries_per_second=rate) for rate in (9, 2_000_000, 3_000_000)]
    rounds += [measured("nchan", "one_room", deliveries_per_second=250_000)]
    medians = Medians(rounds)
    assert target("one room, sustained: deliveries").row(medians)[1:] == ("≥ 2,000,000", "2,000,000", "met")
    assert target("one room, sustained: nchan").row(medians)[1:] == ("≥ × 10.00", "× 8.00", "**not met**")


def test_at_most_means_at_most() -> None:
    medians = Medians(
        [
            measured("template", "one_room_50k", cpu_us_per_delivery=3.8, deliveries_per_write=2.0),
            measured("bare_send", "one_room_50k", cpu_us_per_delivery=5.0, deliveries_per_write=0.0),
            measured("template_gateway", "gateway_unloaded", p50_ms=0.7),
            measured("direct", "gateway_unloaded", p50_ms=0.5),
        ]
    )
    assert target("CPU per socket write").row(medians)[1:] == ("≤ × 1.50", "× 1.52", "**not met**")
    assert target("through the gateway, unloaded").row(medians)[1:] == ("≤ 1.00 ms", "0.20 ms", "met")


def test_a_peer_whose_search_the_client_ended_counts_with_what_its_core_would_carry() -> None:
    peer = measured("nchan", "one_room", deliveries_per_second=100_000, cpu_us_per_delivery=8.0)
    medians = Medians([measured("template", "one_room", deliveries_per_second=1_000_000), peer])
    assert target("one room, sustained: nchan").row(medians)[2:] == ("× 10.00", "met")
    peer.client_limited = True  # with 80 % of its core
    assert target("one room, sustained: nchan").row(medians)[2:] == ("× 8.00", "**not met**")


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    medians = Medians([measured("template", "one_room"), Measurement("original", "one_room", failure="did not start")])
    assert target("one room, sustained: the original").row(medians)[2:] == ("not measured: original in one_room", "–")
    assert all(len(row) == 4 for row in (one.row(Medians([])) for one in TARGETS))


def test_a_peer_that_shows_nothing_is_no_ratio() -> None:
    medians = Medians([measured("template", "one_room"), measured("original", "one_room", deliveries_per_second=0.0)])
    with pytest.raises(Unknown, match="shows 0"):
        target("one room, sustained: the original").measured(medians)


def test_every_target_can_be_met_by_what_a_comparison_measures() -> None:
    """A name of a contender, a workload or a figure that does not exist would be "not measured" for ever."""
    contenders = [one.name for one in load_all()] + ["direct"]
    everything = [
        measured(contender, one.name, deliveries_per_core=1.0) for contender in contenders for one in WORKLOADS
    ]
    assert [row for row in (one.row(Medians(everything)) for one in TARGETS) if "not measured" in row[2]] == []


def test_what_was_stored_is_read_again_and_put_together(tmp_path: Path) -> None:
    first = Results({"date": "Monday", "processor": "one"}, {"template": {"python": "3"}}, {"nchan": "no nginx"})
    first.measurements = [measured("template", "one_room", deliveries_per_second=30.0)]
    second = Results({"date": "Tuesday", "processor": "one"}, {"nchan": {"nginx": "1"}}, {"channels": "no"})
    second.measurements = [measured("nchan", "one_room", deliveries_per_second=2.0), measured("template", "storm")]
    first.save(tmp_path / "first")
    assert second.save(tmp_path / "second").read_text().startswith("# The template and its peers\n\n- date: Tuesday\n")
    merged = Results.merged([Results.read(tmp_path / f"{name}.json") for name in ("first", "second")])
    assert merged.facts == {"date": "Monday; Tuesday", "processor": "one"}
    assert merged.versions == {"template": {"python": "3"}, "nchan": {"nginx": "1"}}
    assert merged.skipped == {"channels": "no"}
    assert merged.measurements == first.measurements + second.measurements
    assert [one.name for one in merged.workloads] == ["one_room", "storm"]
    assert "| one room, sustained: nchan | ≥ × 10.00 | × 15.00 | met |" in merged.markdown()
    assert [row["median"] for row in merged.summary()[0]["rows"]] == [30.0, 2.0]
    assert not list(tmp_path.glob("*.new"))


def test_a_file_that_holds_no_results_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    command = [sys.executable, "-m", "loadtests.compare", "--merge", str(other)]
    refused = subprocess.run(command, cwd=FOLDER.parents[1], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "no results of a comparison: KeyError" in refused.stderr
    assert targets.table([]).count("not measured") == len(TARGETS)
