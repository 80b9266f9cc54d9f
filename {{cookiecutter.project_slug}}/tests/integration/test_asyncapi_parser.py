"""The AsyncAPI document before the official parser, which Node.js runs.

The parser is installed once, in the user's cache, without a lock file. Where Node.js or the parser cannot be had, these
tests are skipped and say so; `tests/unit/test_asyncapi.py` holds the rules that are easily broken in any case.
"""

import copy
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient

from distributed_websocket import WebSocketOAuth2PasswordBearer
from distributed_websocket.asyncapi import add_asyncapi

PARSER = "@asyncapi/parser"
PARSER_VERSION = "3.6.3"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
FOLDER = CACHE / f"asyncapi-parser-{PARSER_VERSION}"
INSTALL_SECONDS = 100
JUDGE_SECONDS = 60
WARNING = 1  # severities: 0 error, 1 warning, 2 information, 3 hint

PROGRAM = """
import { Parser } from '@asyncapi/parser';
let input = '';
for await (const chunk of process.stdin) input += chunk;
const verdicts = {};
for (const [name, text] of Object.entries(JSON.parse(input))) {
  const { document, diagnostics } = await new Parser().parse(text);
  const complaints = diagnostics.map(d => ({ severity: d.severity, text: `${d.path.join('.')}: ${d.message}` }));
  verdicts[name] = { parsed: document !== undefined, complaints };
}
console.log(JSON.stringify(verdicts));
"""

Json = dict[str, Any]


def service(*paths: str) -> TestClient:
    app = FastAPI(title="Chat", version="1.0.0", description="A chat.")

    async def endpoint(websocket: WebSocket) -> None: ...

    for path in paths:
        app.add_api_websocket_route(path, endpoint)
    add_asyncapi(app, bearer=WebSocketOAuth2PasswordBearer("/api/token"))
    return TestClient(app, base_url="https://chat.example.org", root_path="/v1")


def of_components(document: Json) -> None:
    document["operations"]["ws_send"]["messages"] = [{"$ref": "#/components/messages/Send"}]


def of_another_channel(document: Json) -> None:
    document["operations"]["ws_send"]["messages"] = [{"$ref": "#/channels/ws_events/messages/Delivered"}]


def security_map(document: Json) -> None:
    document["servers"]["this"]["security"] = [{"header": []}]


def binding_key(document: Json) -> None:
    document["channels"]["ws_events"]["bindings"]["ws"]["subprotocol"] = "chat.v1"


def scheme_in_host(document: Json) -> None:
    document["servers"]["this"] = {"url": "wss://chat.example.org"}


def lost_reference(document: Json) -> None:
    del document["components"]["messages"]["Ack"]


def client_view(document: Json) -> None:
    document["operations"]["ws_send"]["action"] = "publish"


MISTAKES: list[Callable[[Json], None]] = [
    of_components,
    of_another_channel,
    security_map,
    binding_key,
    scheme_in_host,
    lost_reference,
    client_view,
]


@pytest.fixture(scope="module")
def complaints() -> dict[str, list[str]]:
    """The parser's errors and warnings about each document. All in one process: its start takes seconds."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("the official AsyncAPI parser needs node and npm, which are not there")
    if not FOLDER.exists():
        install(npm)
    good = service("/ws").get("/asyncapi.json").json()
    documents = {
        "json": json.dumps(good),
        "yaml": service("/ws").get("/asyncapi.yaml").text,
        "several routes": service("/ws", "/rooms/{room}/{user}", "/rooms-{room}").get("/asyncapi.json").text,
    }
    for mistake in MISTAKES:
        broken = copy.deepcopy(good)
        mistake(broken)
        documents[mistake.__name__] = json.dumps(broken)

    command = [node, "--input-type=module", "--eval", PROGRAM]
    done = subprocess.run(
        command, input=json.dumps(documents), cwd=FOLDER, capture_output=True, text=True, timeout=JUDGE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    for name, verdict in json.loads(done.stdout).items():
        found[name] = [one["text"] for one in verdict["complaints"] if one["severity"] <= WARNING]
        assert verdict["parsed"] or found[name]
    return found


def install(npm: str) -> None:
    """Install the parser, or skip. What is half installed when this is interrupted never gets the final name."""
    half = FOLDER.with_name(f"{FOLDER.name}.{os.getpid()}")
    half.mkdir(parents=True)
    quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    try:
        command = [npm, "install", *quiet, f"{PARSER}@{PARSER_VERSION}"]
        done = subprocess.run(command, cwd=half, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        if done.returncode != 0:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("npm error")), "npm failed")
            pytest.skip(f"{PARSER} {PARSER_VERSION} could not be installed: {reason}")
        if not FOLDER.exists():
            half.rename(FOLDER)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PARSER} {PARSER_VERSION} could not be installed within {INSTALL_SECONDS} s")
    finally:
        shutil.rmtree(half, ignore_errors=True)


@pytest.mark.parametrize("name", ["json", "yaml", "several routes"])
def test_the_parser_has_no_complaint(complaints: dict[str, list[str]], name: str) -> None:
    assert complaints[name] == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_parser_would_have_complained(complaints: dict[str, list[str]], mistake: Callable[[Json], None]) -> None:
    assert complaints[mistake.__name__] != []
