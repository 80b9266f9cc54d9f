"""TLS at the public entry point, with a certificate that the test signs itself; and the configuration for ACME."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake

from deploy.local.binaries import find_traefik
from deploy.probe import get
from tests.e2e.crowd import COOKIE, Door, cookie_of
from tests.e2e.project_copy import ProjectCopy, copy_project, wait_until


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificate.pem, which is its own authority, and key.pem, which only its owner may read."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no `openssl` here to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    made = subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    (folder / "key.pem").chmod(0o600)
    return folder


@pytest.fixture(scope="module", params=["local", "containers"])
def secure(
    request: pytest.FixtureRequest, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProjectCopy]:
    if request.param == "containers":
        request.getfixturevalue("engine")
    files = {"CHAT_TLS_CERT": certificate / "certificate.pem", "CHAT_TLS_KEY": certificate / "key.pem"}
    settings = {name: str(path) for name, path in files.items()}
    project = copy_project(tmp_path_factory.mktemp("tls") / "project", request.param, CHAT_WORKERS="1", **settings)
    try:
        project.up()
        yield project
    finally:
        done = project.run("clean")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate / "certificate.pem"))


async def test_people_come_in_over_tls_and_get_a_secure_cookie(secure: ProjectCopy, trusting: ssl.SSLContext) -> None:
    door = Door(f"wss://localhost:{secure.base_port}/ws", secure.token_secret, trusting)
    async with door.connected("alice") as (websocket, worker):
        assert worker == "chat-1"
        cookie = cookie_of(websocket)[COOKIE]
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Lax")


def test_the_cookie_of_the_login_is_secure_too(secure: ProjectCopy, trusting: ssl.SSLContext) -> None:
    base = f"https://localhost:{secure.base_port}/api"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting))
    account = {"username": "alice", "password": "correct horse battery"}
    signing_up = urllib.request.Request(
        f"{base}/users", json.dumps(account).encode(), {"Content-Type": "application/json"}
    )
    opener.open(signing_up, timeout=20).close()
    with opener.open(f"{base}/token", urlencode(account).encode(), timeout=20) as answer:
        cookies = SimpleCookie(answer.headers["Set-Cookie"])
    assert cookies["access_token"]["secure"] is True


async def test_nobody_comes_in_without_tls(secure: ProjectCopy) -> None:
    with pytest.raises((OSError, InvalidHandshake)):
        async with connect(f"ws://127.0.0.1:{secure.base_port}/ws", proxy=None):
            pass


def test_the_stack_says_that_it_speaks_tls(secure: ProjectCopy) -> None:
    again = secure.run("up")
    assert again.returncode == 0, again.stderr
    assert f"https://127.0.0.1:{secure.base_port}/" in again.stdout
    assert f"wss://127.0.0.1:{secure.base_port}/ws" in again.stdout


def test_traefik_takes_the_configuration_for_acme(tmp_path: Path) -> None:
    """Its authority is put at a closed port of this machine: nobody out there is asked."""
    names = {"CHAT_ACME_DOMAIN": "chat.example.org", "CHAT_ACME_EMAIL": "you@example.org"}
    project = copy_project(tmp_path / "project", **names)
    layout = project.layout
    layout.make_folders()
    layout.balancer.write_static()
    layout.balancer.write_dynamic([], [])
    static = yaml.safe_load(layout.balancer.static_path.read_text())
    static["certificatesResolvers"]["acme"]["acme"]["caServer"] = f"https://127.0.0.1:{layout.redis_port}/directory"
    layout.balancer.static_path.write_text(yaml.safe_dump(static))
    with (tmp_path / "traefik.log").open("w") as log:
        traefik = subprocess.Popen(
            [find_traefik(), f"--configfile={layout.balancer.static_path}"], cwd=project.root, stdout=log, stderr=log
        )
    try:
        path = "/api/http/routers/web@file"
        wait_until(lambda: (answer := get(layout.traefik_port, path)) and answer.status == 200, "Traefik runs")
        answer = get(layout.traefik_port, path)
        assert answer is not None
        router = json.loads(answer.body)
        assert router["status"] == "enabled"
        assert router["tls"].items() >= {"certResolver": "acme", "domains": [{"main": "chat.example.org"}]}.items()
        asked = 'Unable to obtain ACME certificate for domains error="cannot get ACME client'
        wait_until(lambda: asked in (tmp_path / "traefik.log").read_text(), "it asks the authority")
    finally:
        traefik.terminate()
        traefik.wait(30)
