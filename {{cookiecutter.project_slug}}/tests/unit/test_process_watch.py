"""What is measured of the stack's processes, where there is a stack."""

from pathlib import Path

import pytest

from loadtests import processes
from loadtests.processes import ProcessWatch, total

METRICS = """# HELP ws_connections Open connections
ws_connections{worker="chat-1"} 21.0
ws_messages_delivered_total{worker="chat-1"} 5.0
ws_messages_delivered_total{worker="chat-2"} 7.0
traefik_open_connections{entrypoint="web",protocol="TCP"} 60
traefik_open_connections{entrypoint="workers",protocol="TCP"} 61
gateway_tunnels 3
"""


def test_metrics_are_summed_over_their_labels() -> None:
    assert total(METRICS, "ws_connections") == 21
    assert total(METRICS, "ws_messages_delivered_total") == 12
    assert total(METRICS, "gateway_tunnels") == 3
    assert total(METRICS, "ws_messages") is None


def test_of_traefik_the_public_entry_point_counts() -> None:
    assert total(METRICS, "traefik_open_connections") == 60


def test_without_a_stack_of_this_machine_it_says_that_nothing_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "PROJECT_ROOT", tmp_path)
    watch = ProcessWatch("ws://127.0.0.1:1/ws")
    watch.sample(1)
    figures = watch.figures()
    assert figures["series"] == []
    assert figures["note"].startswith("Not measured: ")
