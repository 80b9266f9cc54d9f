"""What the documents name is there: links, files, targets of make, settings, metrics, commands."""

import importlib
import re
from pathlib import Path
from urllib.parse import urlsplit

import prometheus_client.metrics
import pytest
from pydantic_settings import BaseSettings

from distributed_websocket import metrics
from tests.documents import FENCE, anchors, code, commands, documents, links, name_of
from tests.service import ROOT, load

DOCUMENTS = documents()
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
SOURCES = ("src", "deploy", "loadtests", "docs", "tests", "benchmarks", "requirements", ".github")
OF_THE_TEMPLATE = {"compare"}
"""Targets of the Makefile that made this project, not of this one's."""

TYPED = ("make", "python", "curl", "docker", "kubectl", "git", "cookiecutter", "cruft", "pip", "uv")


def text_of(document: Path) -> str:
    return document.read_text("utf-8")


each = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


def test_the_documents_are_found() -> None:
    assert {"README.md", "docs/operations.md", "docs/protocol.md", "docs/recipes.md", "docs/scaling.md"} <= {
        name_of(document) for document in DOCUMENTS
    }


@each
def test_no_link_is_dead(document: Path) -> None:
    for link in links(text_of(document)):
        address = urlsplit(link)
        if address.scheme:  # only its form: whether others are there is not for a test to ask
            assert address.scheme in ("http", "https"), link
            assert address.hostname, link
            continue
        target = (document.parent / address.path).resolve() if address.path else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if address.fragment:
            assert address.fragment in anchors(text_of(target)), link


@each
def test_the_files_that_are_named_are_there(document: Path) -> None:
    text = text_of(document)
    new = re.findall(r"`([^`]+)`, a new file", text)
    for name in code(text):
        if "{" in name or name in new or name.startswith(("loadtests/reports", "var/")):
            continue
        if re.fullmatch(rf"(?:{'|'.join(map(re.escape, SOURCES))})/[\w./*-]*", name):
            assert any(ROOT.glob(name.rstrip("/"))), name
        elif re.fullmatch(r"\w[\w./-]*\.(?:py|md|js|css|html|conf|yaml|yml|toml)", name):
            everywhere = (found for part in SOURCES for found in (ROOT / part).rglob(Path(name).name))
            near = (found.as_posix() for found in (*document.parent.glob(name), *ROOT.glob(name), *everywhere))
            assert any(found.endswith(f"/{name}") for found in near), name


@each
def test_the_targets_of_make_are_there(document: Path) -> None:
    text = text_of(document)
    targets = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE)) | OF_THE_TEMPLATE
    variables = set(re.findall(r"\b(?:call given,|origin |\$\()([A-Z]+)\b", MAKEFILE))
    for command in [*code(text), *commands(text)]:
        if command.startswith("make "):
            words = command.split()[1:]
            assert {word for word in words if "=" not in word} <= targets, command
            assert {word.partition("=")[0] for word in words if "=" in word} <= variables, command


def settings_of(module: str) -> set[str]:
    """The variables that a module's settings are read from."""
    loaded = importlib.import_module(module) if module.startswith("loadtests") else load(module)
    classes = [one for one in vars(loaded).values() if isinstance(one, type) and issubclass(one, BaseSettings)]
    return {
        str(field.validation_alias or f"{one.model_config.get('env_prefix', '')}{name}".upper())
        for one in classes
        for name, field in one.model_fields.items()
    }


def variables() -> set[str]:
    """What the service, the load tests and the deployment read from the environment."""
    read = settings_of("settings")
    for part in ("", "saturation.", "locust_ui."):
        read |= settings_of(f"loadtests.{part}settings")
    if (ROOT / "loadtests" / "chaos").is_dir():  # a project that stores nothing has none
        read |= settings_of("loadtests.chaos.settings")
    deployment = [*(ROOT / "deploy").rglob("*.py"), *(ROOT / "deploy").rglob("*.yaml"), ROOT / "compose.yaml"]
    return read | {name for path in deployment for name in re.findall(r"\bCHAT_[A-Z0-9_]+\b", text_of(path))}


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / ".env.example", ROOT / "Makefile"], ids=name_of)
def test_the_variables_are_read_by_something(document: Path) -> None:
    named = set(re.findall(r"\b(?:CHAT|LOADTEST|CHAOS|SATURATE)_[A-Z0-9_]*[A-Z0-9]\b", text_of(document)))
    assert named <= variables()


@each
def test_the_metrics_are_exported(document: Path) -> None:
    modules = (metrics, load("gateway.metrics"))
    found = [one for module in modules for one in vars(module).values()]
    exported = {one._name for one in found if isinstance(one, prometheus_client.metrics.MetricWrapperBase)}
    named = {name for name in code(text_of(document)) if re.fullmatch(r"(?:ws|gateway)_[a-z_]+", name)}
    inputs = set(re.findall(r'"(gateway_\w+)"', text_of(ROOT / "docs" / "capacity.json")))
    assert {re.sub(r"_(?:total|bucket|sum|count)$", "", name) for name in named - inputs} <= exported


@each
def test_what_is_to_be_typed_is_marked_as_such(document: Path) -> None:
    """Blocks of `sh` are typed by tests/e2e/test_documents.py; a block without a language is none."""
    for fence in FENCE.finditer(text_of(document)):
        if not fence["language"]:
            assert not fence["code"].lstrip().startswith(TYPED), fence["code"]


@each
def test_the_modules_and_scripts_to_run_are_there(document: Path) -> None:
    text = text_of(document)
    for command in [*code(text), *commands(text)]:
        if module := re.match(r"python -m ([\w.]+)", command):
            path = ROOT / module[1].replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), command
        elif script := re.match(r"python ([\w./]+\.py)", command):
            assert (ROOT / script[1]).is_file(), command
