"""The manifests for Kubernetes: rendered, judged by its schemas, and in agreement with settings and compose."""

import contextlib
import re
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import yaml
from jsonschema import Draft202012Validator
from redis.exceptions import AuthenticationError

from deploy.containers.files import NO_DEFAULT_USER, REDIS_MAX_MEMORY
from deploy.containers.layout import SERVICE_PORT, WORKERS_PORT
from deploy.local.binaries import find_redis
from deploy.settings import DRAIN_SECONDS, SHUTDOWN_SECONDS, STOP_MARGIN_SECONDS
from tests.redis_server import RedisServer
from tests.service import ROOT, load

FOLDER = ROOT / "deploy" / "kubernetes"
COMPONENTS = sorted(path.name for path in (FOLDER / "components").iterdir())
SCHEMA_VERSION = "1.30.0"
"""The oldest that the README promises."""

Manifest = dict[str, Any]

# What has no schema in Kubernetes itself. Only what is used here; a key that is not listed is a slip.
_STRING = {"type": "string"}


def _object(required: list[str], **properties: Any) -> Manifest:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


_COOKIE = _object(
    ["name", "httpOnly", "secure", "sameSite"],
    name=_STRING,
    path=_STRING,
    httpOnly={"const": True},
    secure={"const": True},
    sameSite={"enum": ["lax", "strict"]},
)
_BALANCED = _object(
    ["name", "port"],
    name=_STRING,
    port={"const": "http"},
    strategy={"enum": ["wrr", "p2c"]},
    sticky=_object(["cookie"], cookie=_COOKIE),
)
_ROUTE = _object(
    ["kind", "match", "services"],
    kind={"const": "Rule"},
    match=_STRING,
    services={"type": "array", "minItems": 1, "items": _BALANCED},
)
_ENDPOINT = _object(["port", "path"], port=_STRING, path=_STRING, interval={"type": "string", "pattern": "^[0-9]+s$"})
CUSTOM_SCHEMAS = {
    "IngressRoute": _object(
        ["entryPoints", "routes"],
        entryPoints={"type": "array", "items": _STRING},
        routes={"type": "array", "items": _ROUTE},
        tls={"type": "object"},
    ),
    "ServiceMonitor": _object(
        ["selector", "endpoints"], selector={"type": "object"}, endpoints={"type": "array", "items": _ENDPOINT}
    ),
}


def render(folder: Path) -> list[Manifest]:
    """What would be applied."""
    for program, arguments in (("kubectl", ["kustomize"]), ("kustomize", ["build"])):
        if shutil.which(program):
            told = subprocess.run([program, *arguments, str(folder)], capture_output=True, text=True, check=False)
            assert told.returncode == 0, told.stderr
            return [manifest for manifest in yaml.safe_load_all(told.stdout) if manifest]
    pytest.skip("neither kubectl nor kustomize is here: the manifests were not rendered")


@pytest.fixture(scope="module")
def base() -> list[Manifest]:
    return render(FOLDER)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """With every component opted into."""
    folder = tmp_path_factory.mktemp("kubernetes") / "kubernetes"
    shutil.copytree(FOLDER, folder)
    path = folder / "kustomization.yaml"
    opted_in, changed = re.subn(r"^#(components:|  - components/)", r"\1", path.read_text("utf-8"), flags=re.MULTILINE)
    assert changed == 1 + len(COMPONENTS)
    path.write_text(opted_in, "utf-8")
    return render(folder)


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = (one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def pod(manifests: list[Manifest], name: str) -> Manifest:
    kind = "StatefulSet" if name == "redis" else "Deployment"
    spec: Manifest = one(manifests, kind, name)["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest], name: str) -> Manifest:
    (only,) = pod(manifests, name)["containers"]
    assert isinstance(only, dict)
    return only


def compose_service(name: str) -> Manifest:
    # Unrendered, a template stands in it where a name will be; YAML does not mind.
    service: Manifest = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"][name]
    return service


def environment(manifests: list[Manifest], name: str) -> dict[str, str | None]:
    """The settings that a pod's process gets; None for what comes from elsewhere."""
    settings: dict[str, str | None] = dict(one(manifests, "ConfigMap", "chat-settings")["data"])
    return settings | {variable["name"]: variable.get("value") for variable in container(manifests, name)["env"]}


# Its own rules


def test_the_manifests_are_what_kubernetes_takes(everything: list[Manifest]) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for manifest in everything:
        if manifest["kind"] in CUSTOM_SCHEMAS:
            Draft202012Validator(CUSTOM_SCHEMAS[manifest["kind"]]).validate(manifest["spec"])
        else:
            kubernetes_validate.validate(manifest, SCHEMA_VERSION, strict=True)


def test_the_validator_is_strict() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [], "porst": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, SCHEMA_VERSION, strict=True)


def test_each_component_is_opted_into_by_taking_a_comment_away() -> None:
    text = (FOLDER / "kustomization.yaml").read_text("utf-8")
    assert sorted(re.findall(r"^#  - components/(\w+)$", text, re.MULTILINE)) == COMPONENTS
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert all(f"`components/{name}/`" in readme for name in COMPONENTS)


def test_no_secret_is_in_the_manifests(everything: list[Manifest]) -> None:
    assert [manifest for manifest in everything if manifest["kind"] == "Secret"] == []
    for name in ("chat", "gateway"):
        for variable, value in environment(everything, name).items():
            if re.search(r"SECRET|PASSWORD|REDIS_URL|BROKER_URL", variable):
                assert value is None, variable


@pytest.mark.parametrize("name", ["chat", "gateway", "redis"])
def test_a_pod_may_do_nothing_that_it_does_not_need(everything: list[Manifest], name: str) -> None:
    spec, inside = pod(everything, name), container(everything, name)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == int(compose_service_user(name))
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "a Service named chat would set CHAT_PORT and the like"
    assert {"cpu", "memory"} <= inside["resources"]["limits"].keys()


def compose_service_user(name: str) -> str:
    user: str = compose_service(name if name == "redis" else f"{name}-1")["user"]
    return user.partition(":")[0]


def test_what_is_not_allowed_between_pods_is_forbidden(everything: list[Manifest]) -> None:
    nothing = one(everything, "NetworkPolicy", "nothing")["spec"]
    assert (nothing["podSelector"], set(nothing["policyTypes"])) == ({}, {"Ingress", "Egress"})
    for manifest in everything:
        if manifest["kind"] == "NetworkPolicy":
            for rule in manifest["spec"].get("ingress", []):
                assert rule["from"], "an empty `from` lets everybody in"
                assert rule["ports"]


@pytest.mark.parametrize("name", ["chat", "gateway"])
def test_selectors_find_the_pods(everything: list[Manifest], name: str) -> None:
    labels = one(everything, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
    wanted = {"app.kubernetes.io/name": name}
    assert wanted.items() <= labels.items()
    assert one(everything, "Service", name)["spec"]["selector"] == wanted
    assert one(everything, "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == wanted
    if "monitoring" in COMPONENTS:
        assert one(everything, "ServiceMonitor", name)["spec"]["selector"]["matchLabels"] == wanted
    for spread in pod(everything, name)["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"] == wanted


# In agreement with the settings


@pytest.mark.parametrize(("name", "settings_class"), [("chat", "ChatSettings"), ("gateway", "GatewaySettings")])
def test_the_service_takes_the_settings(
    everything: list[Manifest], name: str, settings_class: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each variable is a setting of one of the two, and none is missing or out of bounds."""
    monkeypatch.chdir(tmp_path)  # there is no .env
    settings = load("settings")
    known = {
        f"CHAT_{field.upper()}"
        for each in (settings.ChatSettings, settings.GatewaySettings)
        for field in each.model_fields
    }
    given = environment(everything, name)
    assert given.keys() - known == set()
    for variable, value in given.items():
        from_elsewhere = {"CHAT_WORKER_NAME": "chat-6d8f7c9b5-x2x7q", "CHAT_TOKEN_SECRET": "s" * 32}
        monkeypatch.setenv(variable, value or from_elsewhere.get(variable, "redis://chat:secret@redis:6379/0"))
    loaded = getattr(settings, settings_class)()
    assert loaded.bind_port == SERVICE_PORT
    assert loaded.log_format == "json"


@pytest.mark.parametrize("name", ["chat", "gateway"])
def test_a_pod_has_time_to_drain(everything: list[Manifest], name: str) -> None:
    given = environment(everything, name)
    drain, shutdown = (float(given[f"CHAT_{part}_SECONDS"] or 0) for part in ("DRAIN", "SHUTDOWN"))
    waits = container(everything, name)["lifecycle"]["preStop"]["sleep"]["seconds"]
    probe = container(everything, name)["readinessProbe"]
    assert pod(everything, name)["terminationGracePeriodSeconds"] >= waits + drain + shutdown + STOP_MARGIN_SECONDS
    assert waits >= probe["periodSeconds"] * probe["failureThreshold"]


def test_the_stacks_own_stop_times_are_the_settings_defaults() -> None:
    fields = load("settings").ProcessSettings.model_fields
    assert fields["drain_seconds"].default == DRAIN_SECONDS
    assert fields["shutdown_seconds"].default == SHUTDOWN_SECONDS


# In agreement with compose


@pytest.mark.parametrize("name", ["chat", "gateway"])
def test_ports_and_limits_are_composes(everything: list[Manifest], name: str) -> None:
    inside, service = container(everything, name), one(everything, "Service", name)
    assert inside["ports"] == [{"name": "http", "containerPort": SERVICE_PORT}]
    assert service["spec"]["ports"] == [{"name": "http", "port": SERVICE_PORT, "targetPort": "http"}]
    limits = compose_service(f"{name}-1")["deploy"]["resources"]["limits"]
    assert _megabytes(inside["resources"]["limits"]["memory"]) == _megabytes(limits["memory"])
    assert float(inside["resources"]["limits"]["cpu"]) == float(limits["cpus"])


def _megabytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([MmGg])(i|b|)", text)
    assert found is not None, text
    return int(found[1]) * (1024 if found[2].lower() == "g" else 1)


@pytest.mark.parametrize("name", ["chat", "gateway"])
def test_readiness_is_asked_where_compose_and_traefik_ask(everything: list[Manifest], name: str) -> None:
    inside = container(everything, name)
    assert inside["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert inside["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert "/readyz" in (ROOT / "deploy" / "containers" / "health.py").read_text("utf-8")
    assert {one["loadBalancer"]["healthCheck"]["path"] for one in _traefik()["services"].values()} == {"/readyz"}


@pytest.mark.parametrize("name", ["chat", "gateway"])
def test_both_run_the_same_programs(everything: list[Manifest], name: str) -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["deployment"]["package"]
    assert container(everything, name)["args"] == ["python", "-m", f"{package}.{name}"]
    assert compose_service(f"{name}-1")["command"] == ["python", "-m", f"{package}.{name}"]


def test_routes_and_the_sticky_cookie_are_traefiks(everything: list[Manifest]) -> None:
    traefik = _traefik()
    web, workers = (one(everything, "IngressRoute", name)["spec"] for name in ("gateway", "chat"))
    assert web["routes"][0]["match"] == traefik["routers"]["web"]["rule"]
    assert workers["entryPoints"] == traefik["routers"]["workers"]["entryPoints"]
    cookie = workers["routes"][0]["services"][0]["sticky"]["cookie"]
    assert cookie == traefik["services"]["chat"]["loadBalancer"]["sticky"]["cookie"] | {"secure": True}
    url = environment(everything, "gateway")["CHAT_WORKERS_URL"] or ""
    assert url.endswith(f":{WORKERS_PORT}/ws")
    (egress,) = one(everything, "NetworkPolicy", "to-traefik")["spec"]["egress"]
    assert egress["ports"] == [{"protocol": "TCP", "port": WORKERS_PORT}]


def _traefik() -> Manifest:
    text = (ROOT / "deploy" / "traefik" / "dynamic.yaml").read_text("utf-8")
    http: Manifest = yaml.safe_load(re.sub(r"\$\{\w+\}", "[]", text))["http"]
    return http


def test_redis_is_composes(everything: list[Manifest]) -> None:
    inside, compose = container(everything, "redis"), compose_service("redis")
    assert inside["image"] == compose["image"]
    limits = compose["deploy"]["resources"]["limits"]
    assert _megabytes(inside["resources"]["limits"]["memory"]) == _megabytes(limits["memory"])
    settings = (ROOT / "deploy" / "redis" / "redis.conf").read_text("utf-8").splitlines()
    given = {argument.removeprefix("--") for argument in inside["args"]}
    wanted = {line for line in settings if line.split(" ")[0] in ("appendonly", "appendfsync", "maxmemory-policy")}
    assert wanted | {f"maxmemory {REDIS_MAX_MEMORY}"} <= given


class RedisOfThePod(RedisServer):
    """Takes the arguments of the pod, and the file of users that the README makes."""

    def __init__(self, directory: Path, arguments: list[str], users: Path) -> None:
        super().__init__(directory)
        settings = [argument.removeprefix("--") for argument in arguments[1:]]
        self._lines = [line for line in settings if line.split(" ")[0] not in ("bind", "dir", "aclfile")]
        self._lines += ["bind 127.0.0.1", f"port {self.port}", f"dir {directory}", f"aclfile {users}"]

    def command(self) -> list[str]:
        path = self.directory / "redis.conf"
        path.write_text("\n".join([*self._lines, ""]), "utf-8")
        return [str(find_redis()), str(path)]

    def client(self, user: str | None = "chat", password: str | None = "secret") -> redis.asyncio.Redis:
        return redis.asyncio.Redis(port=self.port, username=user, password=password)

    def _answers(self) -> bool:
        """As the pod's probe asks."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"AUTH probe none\r\nPING\r\n")
            return connection.makefile("rb").read(12) == b"+OK\r\n+PONG\r\n"
        return False


@pytest.fixture
def redis_of_the_pod(everything: list[Manifest], tmp_path: Path) -> Iterator[RedisOfThePod]:
    """The README's own lines, run, and the result given to a real Redis."""
    readme = (FOLDER / "README.md").read_text("utf-8")
    made = re.search(r"^   (\{ echo .*?) > users\.acl$", readme, re.MULTILINE | re.DOTALL)
    assert made is not None
    users = subprocess.run(
        ["bash", "-c", f"REDIS_PASSWORD=secret; {made[1]}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    lines = (ROOT / "deploy" / "redis" / "users.conf").read_text("utf-8").splitlines()
    names = [line.split(" ")[1] for line in lines if line.startswith("user ")]
    assert [line.split(" ")[1] for line in users.splitlines()] == ["default", *names]
    assert users.splitlines()[0] == NO_DEFAULT_USER, "as in compose"
    (tmp_path / "users.acl").write_text(users, "utf-8")
    server = RedisOfThePod(tmp_path, container(everything, "redis")["args"], tmp_path / "users.acl")
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize(("user", "password"), [(None, None), ("default", ""), ("chat", "wrong")])
async def test_redis_lets_nobody_in_but_its_users(
    redis_of_the_pod: RedisOfThePod, user: str | None, password: str | None
) -> None:
    async with redis_of_the_pod.client(user, password) as client:
        with pytest.raises(AuthenticationError):
            await client.get("chat:user:alice")


async def test_what_scripts_stored_outlives_the_pod(redis_of_the_pod: RedisOfThePod) -> None:
    """Redis 8 replays its file as the default user, and drops what that user may not do."""
    keys = ["chat:user:alice", "chat:user:bob"]
    async with redis_of_the_pod.client() as client:
        script = await client.script_load("redis.call('SET', KEYS[1], 'kept') redis.call('SET', KEYS[2], 'kept')")
        await client.evalsha(script, 2, *keys)
    redis_of_the_pod.stop()
    redis_of_the_pod.start()
    async with redis_of_the_pod.client() as client:
        assert [await client.get(key) for key in keys] == [b"kept", b"kept"]


# More and fewer pods


def test_the_autoscaler_follows_metrics_that_are_exported_and_is_slow_to_scale_down(everything: list[Manifest]) -> None:
    from prometheus_client import REGISTRY

    load("chat.app")
    load("gateway.app")
    exported = {metric.name for metric in REGISTRY.collect()}
    for name in ("chat", "gateway"):
        spec = one(everything, "HorizontalPodAutoscaler", name)["spec"]
        (metric,) = (each["pods"]["metric"]["name"] for each in spec["metrics"] if each["type"] == "Pods")
        assert metric in exported
        down = spec["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] >= 600
        assert [policy["value"] for policy in down["policies"]] == [1]
        assert "replicas" not in one(everything, "Deployment", name)["spec"]


def test_without_the_autoscaler_there_is_more_than_one_of_each(base: list[Manifest]) -> None:
    for name in ("chat", "gateway"):
        assert one(base, "Deployment", name)["spec"]["replicas"] > 1


def test_the_autoscaler_stays_below_a_workers_limit(everything: list[Manifest]) -> None:
    from distributed_websocket import Limits

    (target,) = (
        int(each["pods"]["target"]["averageValue"])
        for each in one(everything, "HorizontalPodAutoscaler", "chat")["spec"]["metrics"]
        if each["type"] == "Pods"
    )
    limit = Limits().connections
    assert limit is not None
    assert target <= limit / 2
