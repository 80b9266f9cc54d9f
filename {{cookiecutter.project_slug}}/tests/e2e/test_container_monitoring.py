"""Whoever watches the stack in containers finds every process of it, and every metric that is looked at."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.containers.engine import containers as containers_of
from tests.e2e.project_copy import ProjectCopy, wait_until
from tests.watched_metrics import EXPRESSIONS, FOLDER, names_in, read_yaml

SCRAPE = """
import json, socket, sys, urllib.request
found = {}
for target in sys.argv[1:]:
    name, port = target.split(":")
    for address in sorted({answer[4][0] for answer in socket.getaddrinfo(name, int(port), socket.AF_INET)}):
        with urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=5) as page:
            found.setdefault(name, {})[address] = page.read().decode()
print(json.dumps(found))
"""
ASK = """
import json, sys, urllib.error, urllib.parse, urllib.request
answers = []
for path in sys.argv[1:]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/{path}", timeout=10) as answer:
            answers.append(json.load(answer))
    except urllib.error.HTTPError as error:
        answers.append(json.load(error))
print(json.dumps(answers))
"""
WATCHED = {"chat": 3, "gateway": 1, "traefik": 1}
"""Processes of the stack, by Prometheus's job."""


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def scraped(containers: ProjectCopy) -> dict[str, dict[str, str]]:
    """What those who have the names of prometheus.yml answer, by name and address."""
    targets: list[str] = []
    for job in read_yaml(FOLDER / "prometheus.yml")["scrape_configs"]:
        targets += [target for static in job.get("static_configs", ()) for target in static["targets"]]
        targets += [f"{dns['names'][0]}:{dns['port']}" for dns in job.get("dns_sd_configs", ())]
    found: dict[str, dict[str, str]] = json.loads(
        docker("exec", containers.container("chat-1").id, "python", "-c", SCRAPE, *targets)
    )
    return found


def test_the_names_lead_to_every_process(containers: ProjectCopy, scraped: dict[str, dict[str, str]]) -> None:
    inside = f"{containers.compose_project}_inside"
    addresses: dict[str, set[str]] = {}
    for container in containers_of(containers.compose_project):
        (facts,) = json.loads(docker("inspect", container.id))
        if (network := facts["NetworkSettings"]["Networks"].get(inside)) and network["IPAddress"]:
            addresses.setdefault(re.sub(r"-\d+$", "", container.service), set()).add(network["IPAddress"])
    assert {name: set(answers) for name, answers in scraped.items()} == addresses
    assert {name: len(answers) for name, answers in scraped.items()} == WATCHED


def test_every_metric_that_is_looked_at_is_exported(scraped: dict[str, dict[str, str]]) -> None:
    exported = {
        sample.name
        for answers in scraped.values()
        for text in answers.values()
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    asked = set().union(*(names_in(expression) for _, expression in EXPRESSIONS))
    assert asked - exported - {"up"} == set()


@pytest.fixture
def prometheus(containers: ProjectCopy) -> Iterator[str]:
    """The name of a container with a real one, at the place and with the files of the one in deploy/monitoring."""
    binary = os.environ.get("PROMETHEUS") or shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus (Debian: apt install prometheus; or PROMETHEUS=path): nobody scraped the containers")
    name, configuration = f"{containers.compose_project}-test-prometheus", containers.root / "deploy" / "monitoring"
    docker(
        *("run", "--detach", "--name", name, "--network", f"{containers.compose_project}_inside"),
        *("--user", "65534:65534", "--read-only", "--tmpfs", "/data:mode=1777"),
        *("--volume", f"{binary}:/usr/local/bin/prometheus:ro", "--volume", f"{configuration}:/etc/prometheus:ro"),
        *("--entrypoint", "prometheus", f"{containers.compose_project}-service"),
        *("--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data"),
    )
    try:
        yield name
    finally:
        docker("rm", "--force", name)


def test_a_real_prometheus_finds_all_of_them_and_has_nothing_to_complain_of(prometheus: str) -> None:
    def ask(*paths: str) -> list[Any]:
        """Nothing before it listens."""
        answered = subprocess.run(
            ["docker", "exec", prometheus, "python", "-c", ASK, *paths], capture_output=True, text=True, timeout=60
        )
        answers: list[Any] = json.loads(answered.stdout) if answered.returncode == 0 else []
        return answers

    def scraped() -> bool:
        targets = [target for answer in ask("targets") for target in answer["data"]["activeTargets"]]
        return Counter(target["labels"]["job"] for target in targets if target["health"] == "up") == WATCHED

    def rules() -> list[dict[str, Any]]:
        return [rule for answer in ask("rules") for group in answer["data"]["groups"] for rule in group["rules"]]

    wait_until(scraped, "everybody is scraped", 60)
    wait_until(lambda: {rule["health"] for rule in rules()} - {"unknown"}, "the rules are evaluated", 60)
    wait_until(lambda: "unknown" not in {rule["health"] for rule in rules()}, "all of them are", 60)
    found = {rule["name"]: rule for rule in rules()}
    assert {name: rule["health"] for name, rule in found.items() if rule["health"] != "ok"} == {}
    assert found["ProcessDown"]["state"] == "inactive"
    expressions = [expression.replace("$__rate_interval", "1m") for _, expression in EXPRESSIONS]
    answers = ask(*(f"query?{urlencode({'query': expression})}" for expression in expressions))
    assert len(answers) == len(expressions)
    for expression, answer in zip(expressions, answers, strict=True):
        assert answer["status"] == "success", f"{expression}: {answer}"


def test_prometheus_and_grafana_are_started_beside_the_stack_and_listed(containers: ProjectCopy) -> None:
    services = read_yaml(FOLDER / "compose.yaml")["services"]
    for service in services.values():
        if subprocess.run(["docker", "image", "inspect", service["image"]], capture_output=True).returncode:
            pytest.skip(f"{service['image']} is not here (docker pull {service['image']}): it was not started")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "deploy.monitoring"],
            cwd=containers.root,
            env=containers.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"http://127.0.0.1:{containers.base_port + 4}/" in done.stdout
        listed = containers.run("ps")
        assert listed.returncode == 0, listed.stdout
        assert set(services) <= {line.split()[0] for line in listed.stdout.splitlines()}
    finally:
        for name in services:
            docker("rm", "--force", containers.container(name).id)
