"""Answers that are unusual and must simply work."""

import json
import re
from pathlib import Path

import pytest
import yaml
from baked_project import BakedProject, bake, bake_typed, cookiecutter

ODD_TEXTS = {
    "quotes": """She said "it's `chat`" and '''that''' and \"\"\"this\"\"\".""",
    "backslashes": "C:\\new\\table \\u0041 \\",
    "newlines": "first line\nsecond line\r\n\tthird line",
    "markup": "<b>&amp;</b> # heading: - [link](x) | $HOME $(id) %s",
    "emoji": "\N{ROCKET} family \N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}, Ünïcödé, 分布式, עברית",
    "one character": "x",
    "200 characters": "long " * 40,
}


def one_line(text: str) -> str:
    return " ".join(text.split())


def assert_texts_arrived(project: BakedProject, description: str, author: str) -> None:
    facts = project.toml()["project"]
    assert facts["description"] == one_line(description)
    assert facts["authors"] == [{"name": one_line(author)}]
    for name in project.files():
        if name.endswith((".yaml", ".yml")):
            list(yaml.safe_load_all(project.text(name)))
        elif name.endswith(".json"):
            json.loads(project.text(name))


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_text_arrives_unchanged_on_one_line(text: str, tmp_path: Path) -> None:
    project = bake(tmp_path, project_name=f"Chat {text}", description=text, author=text)
    assert_texts_arrived(project, text, text)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?", project.path.name)


BRACES = ["${{ secrets.TOKEN }}", "{% raw %}", "{# note #}", "{{ cookiecutter.author }}", "}}{{"]


@pytest.mark.parametrize("text", BRACES)
def test_typed_braces_arrive_unchanged(text: str, tmp_path: Path) -> None:
    """Typed ones only: cookiecutter itself renders what is given as NAME=value."""
    project = bake_typed(tmp_path, project_name=f"Chat {text}", project_slug="braces", description=text, author=text)
    assert_texts_arrived(project, text, text)
    assert f"Chat {text}" in project.text("Makefile").splitlines()[0]


def test_a_name_of_a_project_is_made_into_a_folder_and_a_package(tmp_path: Path) -> None:
    project = bake(tmp_path, project_name="Ma Messagerie Été!")
    assert project.path.name == "ma-messagerie-ete"
    assert (project.path / "src" / "ma_messagerie_ete").is_dir()
    assert project.toml()["tool"]["deployment"]["package"] == "ma_messagerie_ete"


def test_a_project_whose_name_begins_with_a_digit_gets_a_package_that_does_not(tmp_path: Path) -> None:
    project = bake(tmp_path, project_name="2nd Chat")
    assert project.path.name == "2nd-chat"
    assert project.toml()["tool"]["deployment"]["package"] == "chat_2nd_chat"


def test_a_long_name_gives_a_folder_of_at_most_40_characters(tmp_path: Path) -> None:
    assert len(bake(tmp_path, project_name="a very long name " * 12).path.name) <= 40


@pytest.mark.parametrize("workers", [1, 64])
def test_the_number_of_workers_arrives_as_a_number(workers: int, tmp_path: Path) -> None:
    assert bake(tmp_path, workers=workers).toml()["tool"]["deployment"]["workers"] == workers


@pytest.mark.parametrize(("typed", "version"), [("1", "3.11"), ("2", "3.12"), ("3", "3.13")])
def test_the_python_version_is_chosen_by_number(typed: str, version: str, tmp_path: Path) -> None:
    project = bake_typed(tmp_path, python_version=typed)
    assert project.toml()["project"]["requires-python"] == f">={version}"


def test_writing_over_a_project_keeps_its_secrets_and_its_data(tmp_path: Path) -> None:
    project = bake(tmp_path)
    secrets = project.text(".env")
    (project.path / "var").mkdir()
    (project.path / "var" / "data").write_text("data")
    run = cookiecutter(tmp_path, "--no-input", "--overwrite-if-exists", "workers=7")
    assert run.returncode == 0, run.stderr
    assert project.toml()["tool"]["deployment"]["workers"] == 7
    assert (project.text(".env"), project.text("var/data")) == (secrets, "data")
