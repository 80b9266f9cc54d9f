"""Answers that cannot become a project: one sentence each, exit code 1, and nothing left on disk."""

from pathlib import Path

import pytest
from baked_project import cookiecutter, sentence_of_refusal


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("", "no Python package name"),
        ("my-chat", "no Python package name"),
        ("my chat", "no Python package name"),
        ("2chat", "no Python package name"),
        ("Chat", "no Python package name"),
        ("été", "no Python package name"),
        ("../chat", "no Python package name"),
        ('"; import os #', "no Python package name"),
        ("x" * 46, "no Python package name"),
        ("class", "keyword"),
        ("match", "keyword"),
        ("nul", "device name on Windows"),
        ("tests", "another package of the project"),
        ("deploy", "another package of the project"),
        ("loadtests", "another package of the project"),
        ("distributed_websocket", "another package of the project"),
        ("asyncio", "standard library"),
        ("fastapi", "depends on"),
        ("jwt", "depends on"),
    ],
)
def test_bad_package_name(package: str, reason: str, tmp_path: Path) -> None:
    assert reason in sentence_of_refusal(tmp_path, package_name=package)


@pytest.mark.parametrize("workers", ["0", "65", "1000", "-1", "2.5", "three", "", "٣", "3\n"])
def test_bad_number_of_workers(workers: str, tmp_path: Path) -> None:
    assert "from 1 to 64" in sentence_of_refusal(tmp_path, workers=workers)


@pytest.mark.parametrize(
    ("slug", "reason"),
    [
        ("My Chat", "no folder name"),
        ("-chat", "no folder name"),
        ("chat.", "no folder name"),
        ("x" * 41, "no folder name"),
        ("con", "device name on Windows"),
    ],
)
def test_bad_folder_name(slug: str, reason: str, tmp_path: Path) -> None:
    assert reason in sentence_of_refusal(tmp_path, project_slug=slug, package_name="chat")


def test_a_folder_outside_is_not_left_behind(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    assert "no folder name" in sentence_of_refusal(inside, project_slug="../outside", package_name="chat")
    assert [*tmp_path.iterdir()] == [inside]


@pytest.mark.parametrize("name", ["project_name", "description", "author"])
def test_text_that_is_none(name: str, tmp_path: Path) -> None:
    assert "U+001B" in sentence_of_refusal(tmp_path, **{name: "red \x1b[31m text", "project_slug": "chat"})
    assert "is empty" in sentence_of_refusal(tmp_path, **{name: "  ", "project_slug": "chat"})


def test_the_sentence_says_what_was_received_and_what_is_allowed(tmp_path: Path) -> None:
    assert sentence_of_refusal(tmp_path, workers=1000) == (
        'workers: "1000" is no number of workers; use a whole number from 1 to 64.'
    )


@pytest.mark.parametrize(
    "answer",
    [
        "python_version=2.7",
        "license=GPL-3.0",
        "delivery=exactly-once",
        "ci=jenkins",
        "monitoring=perhaps",
        "kubernetes=",
    ],
)
def test_an_answer_that_is_not_offered(answer: str, tmp_path: Path) -> None:
    run = cookiecutter(tmp_path, "--no-input", answer)
    assert run.returncode != 0
    assert [*tmp_path.iterdir()] == []


def test_an_existing_folder_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "distributed-chat").mkdir()
    (tmp_path / "distributed-chat" / "mine.txt").write_text("mine")
    run = cookiecutter(tmp_path, "--no-input")
    assert run.returncode == 1
    assert "already exists" in run.stdout + run.stderr
    assert [file.name for file in (tmp_path / "distributed-chat").iterdir()] == ["mine.txt"]
