"""The AsyncAPI document before the official parser, which Node.js runs.

The parser is installed once, below var/, without a lock file. Where Node.js or the parser cannot be had, these tests
are skipped and say so; `tests/unit/test_asyncapi.py` holds the rules that are easily broken in any case.
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
from tests.service import ROOT

PARSER = "@asyncapi/parser"
PARSER_VERSION = "3.6.3"
FOLDER = ROOT / "var" / f"asyncapi-parser-{PARSER_VERSION}"
INSTALL_SECONDS = 100
JUDGE_SECONDS = 30
WARNING = 1  # severities: 0 error, 1 warning, 2 information, 3 hint

PROGRAM = """
import { Parser } from '@asyncapi/parser';
let text = '';
for await (const chunk of process.stdin) text += chunk;
const { document, diagnostics } = await new Parser().parse(text);
const complaints = diagnostics.map(d => ({ severity: d.severity, text: `${d.path.join('.')}: ${d.message}` }));
console.log(JSON.stringify({ parsed: document !== undefined, complaints }));
"""

Json = dict[str, Any]
Judge = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def judge() -> Judge:
    """Errors and warnings of the parser about a document, JSON or YAML."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("the official AsyncAPI parser needs node and npm, which are not there")
    if not FOLDER.exists():
        install(npm)

    def complaints(text: str) -> list[str]:
        command = [node, "--input-type=module", "--eval", PROGRAM]
        done = subprocess.run(command, input=text, cwd=FOLDER, capture_output=True, text=True, timeout=JUDGE_SECONDS)
        assert done.returncode == 0, done.stderr
        verdict = json.loads(done.stdout)
        found = [one["text"] for one in verdict["complaints"] if one["severity"] <= WARNING]
        assert verdict["parsed"] or found
        return found

    return complaints


def install(npm: str) -> None:
    """Install the parser, or skip. What is half installed when this is interrupted never gets the final name."""
    half = FOLDER.with_name(f"{FOLDER.name}.{os.getpid()}")
    half.mkdir(parents=True)
    quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    try:
        command = [npm, "install", *quiet, f"{PARSER}@{PARSER_VERSION}"]
        done = subprocess.run(command, cwd=half, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        if done.returncode != 0:
            pytest.skip(f"{PARSER} {PARSER_VERSION} could not be installed: {done.stderr.strip()[-300:]}")
        if not FOLDER.exists():
            half.rename(FOLDER)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{PARSER} {PARSER_VERSION} could not be installed within {INSTALL_SECONDS} s")
    finally:
        shutil.rmtree(half, ignore_errors=True)


def service(*paths: str) -> TestClient:
    app = FastAPI(title="Chat", version="1.0.0", description="A chat.")

    async def endpoint(websocket: WebSocket) -> None: ...

    for path in paths:
        app.add_api_websocket_route(path, endpoint)
    add_asyncapi(app, bearer=WebSocketOAuth2PasswordBearer("/api/token"))
    return TestClient(app, base_url="https://chat.example.org", root_path="/v1")


@pytest.mark.parametrize("path", ["/asyncapi.json", "/asyncapi.yaml"])
def test_the_parser_has_no_complaint(judge: Judge, path: str) -> None:
    assert judge(service("/ws").get(path).text) == []


def test_the_parser_has_no_complaint_about_several_routes_and_parameters(judge: Judge) -> None:
    assert judge(service("/ws", "/rooms/{room}/{user}", "/rooms-{room}").get("/asyncapi.json").text) == []


def of_components(document: Json) -> None:
    document["operations"]["ws_send"]["messages"] = [{"$ref": "#/components/messages/Send"}]


def security_map(document: Json) -> None:
    document["servers"]["this"]["security"] = [{"header": []}]


def binding_key(document: Json) -> None:
    document["channels"]["ws_events"]["bindings"]["ws"]["subprotocol"] = "chat.v1"


def lost_reference(document: Json) -> None:
    del document["components"]["messages"]["Ack"]


def wrong_example(document: Json) -> None:
    document["components"]["messages"]["Ack"]["examples"][0]["payload"]["id"] = 5


@pytest.mark.parametrize("mistake", [of_components, security_map, binding_key, lost_reference, wrong_example])
def test_the_parser_would_have_complained(judge: Judge, mistake: Callable[[Json], None]) -> None:
    document = copy.deepcopy(service("/ws").get("/asyncapi.json").json())
    mistake(document)
    assert judge(json.dumps(document)) != []


def test_nothing_that_names_a_registry_is_left_behind(judge: Judge) -> None:
    assert [path for path in FOLDER.glob("*") if path.name != "node_modules"] == []
    assert (FOLDER / "node_modules" / Path(PARSER) / "package.json").exists()
