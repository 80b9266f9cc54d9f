"""The capacity model, and that the document shows what the script says."""

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.service import ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def capacity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("capacity", DOCS / "capacity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["capacity"] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


def with_inputs(capacity: ModuleType, **changed: float) -> Any:
    given = capacity.Inputs.read()
    assert changed.keys() <= given.keys()
    return capacity.Inputs({**given, **changed})


def test_the_tables_of_the_document_are_what_the_script_prints(capacity: ModuleType) -> None:
    document = (DOCS / "scaling.md").read_text("utf-8")
    assert capacity.table(capacity.Inputs.read()) in document
    assert capacity.inputs_table() in document


def test_more_connections_never_need_less(capacity: ModuleType) -> None:
    plans = [capacity.plan(size, capacity.Inputs.read()) for size in capacity.SIZES]
    for part in ("workers", "gateways", "traefiks", "shards"):
        counts = [getattr(plan, part).count for plan in plans]
        assert counts == sorted(counts)
        assert counts[0] >= 1


def test_quiet_people_are_limited_by_connections_and_loud_ones_by_cpu(capacity: ModuleType) -> None:
    quiet = capacity.plan(100_000, with_inputs(capacity, seconds_between_messages=3600))
    loud = capacity.plan(100_000, with_inputs(capacity, seconds_between_messages=10, room_members=200))
    assert (quiet.workers.reason, quiet.gateways.reason) == ("connections", "ports")
    assert (loud.workers.reason, loud.gateways.reason) == ("CPU", "CPU")
    assert loud.workers.count > quiet.workers.count


def test_the_workers_of_a_plan_have_the_cpu_that_it_takes(capacity: ModuleType) -> None:
    """Counted again the other way around: what one of them does in a second."""
    given = with_inputs(capacity, seconds_between_messages=10, room_members=200)
    plan = capacity.plan(300_000, given)
    share = plan.workers.count
    busy = (
        plan.deliveries / share * given["cpu_us_per_write"]
        + plan.messages / share * given["cpu_us_per_message"]
        + plan.connections / given["connection_seconds"] / share * given["cpu_us_per_handshake"]
        + plan.messages * given["cpu_us_per_message_read"]
    ) / 1e6
    assert given["busy"] * 0.9 < busy <= given["busy"]


def test_more_than_one_worker_can_read_is_for_regions(capacity: ModuleType) -> None:
    with pytest.raises(ValueError, match="region"):
        capacity.plan(1_000_000, with_inputs(capacity, seconds_between_messages=5))


def test_a_figure_comes_from_a_comparison_where_it_measured_it(capacity: ModuleType, tmp_path: Path) -> None:
    inputs = tmp_path / "capacity.json"
    shutil.copy(DOCS / "capacity.json", inputs)
    measured = [
        {"contender": "template", "workload": "storm", "figures": {"cpu_us_per_handshake": value}}
        for value in (280, 320, 900)
    ] + [{"contender": "usual_loop", "workload": "storm", "figures": {"cpu_us_per_handshake": 1}}]
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"measurements": measured}), "utf-8")
    assert capacity.update(result, inputs) == ["cpu_us_per_handshake"]
    before, after = capacity.Inputs.read(), capacity.Inputs.read(inputs)
    assert after["cpu_us_per_handshake"] == 320
    assert {name for name in before if before[name] != after[name]} == {"cpu_us_per_handshake"}


def test_the_file_of_inputs_is_as_the_script_writes_it(capacity: ModuleType, tmp_path: Path) -> None:
    inputs, nothing = tmp_path / "capacity.json", tmp_path / "nothing.json"
    shutil.copy(DOCS / "capacity.json", inputs)
    nothing.write_text('{"measurements": []}', "utf-8")
    assert capacity.update(nothing, inputs) == []
    assert inputs.read_text("utf-8") == (DOCS / "capacity.json").read_text("utf-8")


def test_limits_are_those_of_the_service(capacity: ModuleType) -> None:
    from distributed_websocket import Limits

    given = capacity.Inputs.read()
    limit = Limits().connections
    assert limit is not None
    assert given["connections_per_worker"] == limit / 2
    assert f"nofile: {math.floor(given['open_files'])}" in (ROOT / "compose.yaml").read_text("utf-8")
