"""What the template's own documents name is there, and what they say to type works."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from baked_project import CONFIGURATION, PROMPTS, TEMPLATE, without_make

from render import copy_template

DOCUMENTS = sorted([*TEMPLATE.glob("*.md"), *TEMPLATE.glob("docs/*.md"), TEMPLATE / "loadtests" / "README.md"])
PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<(https?:[^>]+)>|\b(?:href|src|srcset)=\"([^\"]+)\"")

NOT_TYPED = {
    "cookiecutter gh:": "test_answers.py does, with the folder in place of the address",
    "cd ": "the template has these targets too",
    "cruft ": "test_first_commit_and_updates.py does",
    "make test": "it is what runs this",
}
"""Commands that no test types as they stand there, by how they begin; and why."""

each = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(TEMPLATE).as_posix())


def text_of(document: Path) -> str:
    return document.read_text("utf-8")


def links(text: str) -> list[str]:
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    return [next(filter(None, found)) for found in LINK.findall(prose)]


def code(text: str) -> list[str]:
    """What stands between backticks in prose."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def commands(text: str) -> list[str]:
    """What the blocks of `sh` say to type, without the remarks."""
    blocks = [fence["code"] for fence in FENCE.finditer(text) if fence["language"] == "sh"]
    return [re.sub(r" +# .*", "", line) for block in blocks for line in block.splitlines() if line.strip()]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


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
        if address.fragment:
            assert address.fragment in anchors(text_of(target)), link


@each
def test_the_files_that_are_named_are_there(document: Path) -> None:
    """Of the template, or of the project that it makes."""
    parts = [TEMPLATE, PROJECT, *(PROJECT / part for part in ("src", "deploy", "loadtests", "tests", "docs"))]
    for name in code(text_of(document)):
        if re.fullmatch(r"(?!DATE|NAME)\w[\w./{}-]*\.(?:py|md|js|c|toml|yaml|conf|svg)", name):
            near = any((folder / name).exists() for folder in (*parts, document.parent))
            found = near or any(path.as_posix().endswith(f"/{name}") for path in PROJECT.rglob(Path(name).name))
            assert found, name


def makefiles() -> str:
    return text_of(TEMPLATE / "Makefile") + text_of(PROJECT / "Makefile")


@each
def test_the_targets_of_make_are_there(document: Path) -> None:
    """What is given on the command line reaches the project's own `make`."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefiles(), flags=re.MULTILINE))
    variables = set(re.findall(r"\b(?:call given,|origin |\$\()([A-Z]+)\b", makefiles()))
    for command in [*code(text_of(document)), *commands(text_of(document))]:
        if command.startswith("make "):
            words = re.sub(r"\"[^\"]*\"", "_", command).split()[1:]
            assert {word for word in words if "=" not in word} <= targets, command
            assert {word.partition("=")[0] for word in words if "=" in word} <= variables, command


@each
def test_the_variables_are_read_by_something(document: Path) -> None:
    sources = [*PROJECT.rglob("*.py"), *PROJECT.glob("*.yaml"), PROJECT / ".env.example"]
    everything = "\n".join(text_of(path) for path in sources)
    for name in set(re.findall(r"\b(?:CHAT|LOADTEST|CHAOS)_[A-Z_]*[A-Z]\b", text_of(document))):
        prefix, _, field = name.partition("_")
        assert name in everything or (prefix == "CHAT" and f"\n    {field.lower()}:" in everything), name


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of the README, without its head."""
    section = text_of(TEMPLATE / "README.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)[0]
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()[2:]]


def test_the_questions_are_those_that_are_asked() -> None:
    labels = [CONFIGURATION["__prompts__"][name] for name in PROMPTS]
    asked = [label if isinstance(label, str) else label["__prompt__"] for label in labels]
    assert [row[0].partition(" (")[0] for row in rows("Questions")] == [label.partition(" (")[0] for label in asked]


def test_the_peers_are_those_that_are_measured() -> None:
    titles = [tomllib.loads(text_of(path))["title"] for path in (TEMPLATE / "loadtests" / "contenders").glob("*.toml")]
    peers = [row[0].strip("*").replace("`", "") for row in rows("What makes it different")]
    assert peers[0] == "this template"
    assert len(peers) > 5
    assert all(any(title.replace("`", "").startswith(peer) for title in titles) for peer in peers), (peers, titles)


@each
def test_what_is_to_be_typed_is_marked_as_such(document: Path) -> None:
    for fence in FENCE.finditer(text_of(document)):
        if not fence["language"]:
            assert not fence["code"].startswith(("make", "cookiecutter", "cruft", "cd ")), fence["code"]


# Typing


@pytest.fixture
def clone(tmp_path: Path, installed_python: Path) -> Iterator[Path]:
    """The template as a clone has it, with its environments made already; its stack is stopped at the end."""
    folder = copy_template(tmp_path)
    for name in ("Makefile", "render.py"):
        shutil.copy(TEMPLATE / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / "build").mkdir()
    (folder / "build" / "venv").symlink_to(installed_python.parent.parent.resolve())
    yield folder
    type_in(folder, "make down")


def type_in(folder: Path, command: str) -> str:
    small = {
        "LOADTEST_USERS": "20",
        "LOADTEST_ROOMS": "2",
        "LOADTEST_RATE": "50",
        "LOADTEST_DURATION_SECONDS": "2",
        "LOADTEST_P99_MS": "20000",
    }
    here = {"CHAT_PORT": str(PORT), "CHAT_RUNTIME": "local"}
    done = subprocess.run(
        [*command.split(), "--assume-old=install"],
        cwd=folder,
        env=without_make() | small | here,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def free_ports() -> int:
    """A base above which the stack finds its ports, away from those that systems give out."""
    for base in range(11_000 + os.getpid() % 100 * 100, 32_000, 100):
        try:
            for offset in (0, 1, 2, 3, 11, 21, 22, 23):
                with socket.create_server(("127.0.0.1", base + offset)):
                    pass
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


PORT = free_ports()


@pytest.mark.slow
def test_the_commands_of_the_readme_work_as_they_stand_there(clone: Path) -> None:
    """A newcomer's: until the stack has been load-tested and stopped."""
    for command in commands(text_of(TEMPLATE / "README.md")):
        if not command.startswith(tuple(NOT_TYPED)):
            assert command.startswith("make "), command
            said = type_in(clone, command)
            if command in ("make demo", "make loadtest"):
                assert "PASSED" in said
