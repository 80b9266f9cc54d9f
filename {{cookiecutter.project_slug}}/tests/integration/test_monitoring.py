"""Prometheus's rules and Grafana's dashboard: whole, tested, and about nothing that nobody exports."""

import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from deploy.balancer import Balancer
from deploy.containers.layout import OPERATOR_PORT, SERVICE_PORT
from deploy.local.binaries import find_traefik
from deploy.local.layout import read_layout
from deploy.local.records import write_stack
from deploy.monitoring import __main__ as monitoring
from deploy.monitoring.scraping import local_configuration, write_local
from tests.redis_server import free_port
from tests.service import ROOT, load
from tests.watched_metrics import EXPRESSIONS, FOLDER, alerts, names_in, panels, read_yaml

START_SECONDS = 60.0


@pytest.fixture(scope="module")
def of_the_service() -> set[str]:
    """Every sample that a worker or a gateway exports; tests/integration/test_metrics.py asks real ones for them."""
    load("chat.app")
    load("gateway.app")
    samples: set[str] = set()
    for metric in REGISTRY.collect():
        samples |= {sample.name for sample in metric.samples}
    return samples


@pytest.fixture(scope="module")
def of_traefik(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """What the real one exports with the stack's own configuration, once it has checked the health of a server."""
    folder = tmp_path_factory.mktemp("traefik")
    ports = {entry_point: free_port() for entry_point in ("web", "workers", "traefik")}
    addresses = {entry_point: f"127.0.0.1:{port}" for entry_point, port in ports.items()}
    balancer = Balancer(folder, str(folder), addresses, ports["traefik"], None, "", "", "")
    nobody = f"http://127.0.0.1:{free_port()}"
    balancer.write_static()
    balancer.write_dynamic([nobody], [nobody])
    log = (folder / "log").open("wb")
    process = subprocess.Popen([str(find_traefik()), f"--configFile={balancer.static_path}"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        names: set[str] = set()
        while "traefik_service_server_up" not in names:
            assert process.poll() is None, (folder / "log").read_text("utf-8")
            assert time.monotonic() < deadline, f"only {sorted(names)}"
            names = _exported(f"http://127.0.0.1:{ports['traefik']}/metrics")
            time.sleep(0.1)
        # Once more: what it counts of requests is there behind the first answer.
        yield _exported(f"http://127.0.0.1:{ports['traefik']}/metrics") | names
    finally:
        process.terminate()
        process.wait(START_SECONDS)
        log.close()


def _exported(url: str) -> set[str]:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2) as answer:
            families = text_string_to_metric_families(answer.read().decode())
            return {sample.name for family in families for sample in family.samples}
    except (urllib.error.URLError, OSError):
        return set()


def test_names_are_found_in_expressions() -> None:
    assert names_in('sum by (code) (rate(a_total{code=~"4.*"}[1m])) > 0 and up == 1') == {"a_total", "up"}
    assert names_in("histogram_quantile(0.99, sum by (instance, le) (rate(a_bucket[5m]))) / 2e3") == {"a_bucket"}


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_what_is_asked_for_is_exported(
    where: str, expression: str, of_the_service: set[str], of_traefik: set[str]
) -> None:
    names = names_in(expression)
    assert names, expression
    # `up` is Prometheus's own.
    assert names - of_the_service - of_traefik - {"up"} == set(), f"{where} asks for what nobody exports"


def test_every_metric_of_the_service_is_on_the_dashboard_or_in_an_alert(of_the_service: set[str]) -> None:
    """A metric that nobody looks at is one too many."""
    asked: set[str] = set().union(*(names_in(expression) for _, expression in EXPRESSIONS))
    shown = {re.sub(r"_(total|bucket|sum|count|created|info)$", "", name) for name in asked}
    metrics = {
        metric.name
        for metric in REGISTRY.collect()
        if metric.name.startswith(("ws_", "gateway_")) and metric.name != "ws_worker"  # to join the others with
    }
    assert metrics - shown == set()


def test_the_dashboard_is_whole() -> None:
    identifiers = [panel["id"] for panel in panels()]
    assert len(identifiers) == len(set(identifiers))
    for panel in panels():
        assert panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == provisioned_datasource()["uid"]


def provisioned_datasource() -> dict[str, Any]:
    (source,) = read_yaml(FOLDER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")["datasources"]
    assert isinstance(source, dict)
    return source


def test_each_alert_says_what_to_do_and_has_a_test() -> None:
    tested = {
        case["alertname"]
        for test in read_yaml(FOLDER / "alerts.test.yml")["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
    assert {rule["alert"] for rule in alerts()} == tested


def test_promtool_accepts_and_tests_the_rules() -> None:
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool (Debian: apt install prometheus; or PROMTOOL=path): the alerts' tests did not run")
    for arguments in (
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ):
        told = subprocess.run([promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stdout + told.stderr


# The two ways to run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[tool.deployment]\npackage = "chat"\nworkers = 2\n', "utf-8")
    return tmp_path


def test_without_containers_the_same_jobs_ask_this_machines_ports(project: Path) -> None:
    layout = read_layout(project, {"CHAT_PORT": "9000", "CHAT_REDIS_PASSWORD": "x"})
    jobs = {job["job_name"]: job["static_configs"] for job in local_configuration(layout)["scrape_configs"]}
    assert set(jobs) == {job["job_name"] for job in read_yaml(FOLDER / "prometheus.yml")["scrape_configs"]}
    targets = {job: [config["targets"][0] for config in configs] for job, configs in jobs.items()}
    assert targets == {
        "chat": ["127.0.0.1:9021", "127.0.0.1:9022"],
        "gateway": ["127.0.0.1:9011"],
        "traefik": ["127.0.0.1:9002"],
    }
    path = write_local(layout)
    assert [Path(rules).exists() for rules in read_yaml(path)["rule_files"]] == [True]


def test_the_stack_that_runs_is_watched_at_its_own_ports(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever `.env` and the environment say by now."""
    layout = read_layout(project, {"CHAT_PORT": "9000", "CHAT_WORKERS": "3", "CHAT_REDIS_PASSWORD": "x"})
    layout.make_folders()
    write_stack(layout, project / "supervisor.sock")
    monkeypatch.setattr(monitoring, "PROJECT_ROOT", project)
    monkeypatch.setenv("CHAT_PORT", "7000")
    assert monitoring.main() == 0
    assert read_yaml(project / "var" / "monitoring" / "prometheus.yml") == local_configuration(layout)


def test_where_nothing_runs_the_settings_say_which_ports(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "PROJECT_ROOT", project)
    monkeypatch.setenv("CHAT_PORT", "7000")
    monkeypatch.setenv("CHAT_REDIS_PASSWORD", "x")
    assert monitoring.main() == 0
    written = read_yaml(project / "var" / "monitoring" / "prometheus.yml")
    assert written == local_configuration(read_layout(project, os.environ))


def test_the_containers_names_and_ports_are_those_of_the_compose_file() -> None:
    jobs = {job["job_name"]: job for job in read_yaml(FOLDER / "prometheus.yml")["scrape_configs"]}
    services = read_yaml(ROOT / "compose.yaml")["services"]
    for job in ("chat", "gateway"):
        assert services[f"{job}-1"]["networks"]["inside"]["aliases"] == [job], "the others are copies of the first"
        (discovery,) = jobs[job]["dns_sd_configs"]
        assert (discovery["names"], discovery["port"]) == ([job], SERVICE_PORT)
    assert jobs["traefik"]["static_configs"] == [{"targets": [f"traefik:{OPERATOR_PORT}"]}]


def test_prometheus_and_grafana_are_kept_as_tight_as_the_others() -> None:
    fragment = read_yaml(FOLDER / "compose.yaml")
    for name, service in fragment["services"].items():
        assert service["profiles"] == ["monitoring"], name
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"].split(":")[0] != "0"
        assert "limits" in service["deploy"]["resources"]
        for volume in service["volumes"]:
            assert volume.endswith(":ro") or "-data:" in volume, volume
            assert "docker.sock" not in volume
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "ports" not in fragment["services"]["prometheus"]
    assert "inside" not in fragment["services"]["grafana"]["networks"]


def test_the_public_router_passes_no_request_for_metrics() -> None:
    rule = _router_rule("web")
    for path in ("/metrics", "/readyz", "/healthz"):
        assert path not in rule
    assert "PathPrefix(`/`)" not in rule
    assert "/metrics" not in _router_rule("workers")


def _router_rule(name: str) -> str:
    text = (ROOT / "deploy" / "traefik" / "dynamic.yaml").read_text("utf-8")
    rule: str = yaml.safe_load(re.sub(r"\$\{\w+\}", "[]", text))["http"]["routers"][name]["rule"]
    return rule
