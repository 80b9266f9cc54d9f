"""docs/operations.md names exactly the metrics and the settings of the log that there are, with the right numbers."""

import re

import prometheus_client.metrics
import pytest

from distributed_websocket import metrics
from distributed_websocket.brokers import LOG_SCHEMES, PUBSUB_SCHEMES
from tests.service import ROOT, load

TEXT = (ROOT / "docs" / "operations.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the last table below a heading, without its head."""
    section = re.split(r"\n#+ ", TEXT.partition(f"# {heading}\n")[2])[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
    assert tables, f"there is no table below {heading!r}"
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in tables[-1].splitlines()[2:]]


def names_of(module: object) -> set[str]:
    found = [one for one in vars(module).values() if isinstance(one, prometheus_client.metrics.MetricWrapperBase)]
    return {one._name for one in found}


def test_every_metric_is_listed_with_what_to_do_when_it_moves() -> None:
    told = {row[0].strip("`"): row for part in ("Of a worker", "Of a gateway") for row in rows(part)}
    assert told.keys() == names_of(metrics) | names_of(load("gateway.metrics"))
    assert all(len(row) == 3 and all(row) for row in told.values())


@pytest.mark.parametrize("name", ["shards", "retention_messages", "retention_seconds", "idempotency_seconds"])
def test_a_setting_of_the_log_has_its_default_and_its_bounds(name: str) -> None:
    field = load("settings").LogSettings.model_fields[name]
    (row,) = [row for row in rows("What is kept") if row[0] == f"`CHAT_{name.upper()}`"]
    least, most = (next(getattr(bound, end) for bound in field.metadata if hasattr(bound, end)) for end in ("ge", "le"))
    assert row[1] == str(field.default)
    assert row[2] == f"{least:,} to {most:,}"


def test_every_setting_of_the_log_is_listed() -> None:
    settings = load("settings")
    own = settings.LogSettings.model_fields.keys() - settings.ProcessSettings.model_fields.keys()
    assert {row[0] for row in rows("What is kept")} == {f"`CHAT_{name.upper()}`" for name in own}


def test_every_kind_of_broker_is_listed() -> None:
    told = {row[0].strip("`").partition(":")[0] for row in rows("Beyond one node")}
    plain = {scheme for scheme in LOG_SCHEMES + PUBSUB_SCHEMES if not scheme.startswith("rediss")}
    assert told == plain | {"memory"}
