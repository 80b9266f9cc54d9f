"""What the defaults give, and that every file of it is whole."""

import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
from baked_project import CONFIGURATION, PROMPTS, TEMPLATE, BakedProject, bake, bake_typed, leftovers, parse_all


def test_every_prompt_has_a_label() -> None:
    """A label with [square brackets] would lose them, since rich reads them as markup."""
    labels = CONFIGURATION["__prompts__"]
    assert list(labels) == PROMPTS
    for name, label in labels.items():
        assert "[" not in " ".join([label] if isinstance(label, str) else label.values())
        if isinstance(CONFIGURATION[name], list):
            assert list(label) == ["__prompt__", *CONFIGURATION[name]]


def test_enter_at_every_prompt_gives_the_same_project_as_no_input(
    default_project: BakedProject, tmp_path: Path
) -> None:
    assert bake_typed(tmp_path).contents() == default_project.contents()


def test_two_projects_have_different_secrets(default_project: BakedProject, tmp_path: Path) -> None:
    assert bake(tmp_path).text(".env") != default_project.text(".env")


def test_only_the_owner_reads_the_secrets(default_project: BakedProject) -> None:
    assert stat.S_IMODE((default_project.path / ".env").stat().st_mode) == 0o600


def test_env_is_its_example_with_a_value_for_every_name(default_project: BakedProject) -> None:
    example, env = (default_project.text(name).splitlines() for name in (".env.example", ".env"))
    assert len(example) == len(env)
    filled = [(before, after) for before, after in zip(example, env, strict=True) if before != after]
    assert [before for before, _ in filled] == ["CHAT_TOKEN_SECRET=", "CHAT_REDIS_PASSWORD="]
    for before, after in filled:
        assert re.fullmatch(re.escape(before) + "[0-9a-f]{64}", after)


def test_the_last_words_are_the_commands_to_type_next(default_project: BakedProject) -> None:
    assert default_project.output.split()[-6:] == ["cd", "distributed-chat", "make", "up", "make", "loadtest"]


def test_no_placeholder_is_left(default_project: BakedProject) -> None:
    assert leftovers(default_project) == []


def test_python_files_hold_no_jinja(default_project: BakedProject) -> None:
    sources = [name for name in default_project.files() if name.endswith(".py")]
    assert sources
    assert [name for name in sources if "cookiecutter." in default_project.text(name)] == []


def test_every_file_parses(default_project: BakedProject) -> None:
    parse_all(default_project)


def test_lines_end_with_a_line_feed_alone(default_project: BakedProject) -> None:
    for name in default_project.files():
        if name.endswith(".png"):
            continue
        assert b"\r\n" not in (default_project.path / name).read_bytes(), name


def test_no_tool_has_left_its_cache(default_project: BakedProject) -> None:
    assert not [name for name in default_project.files() if "__pycache__" in name or "_cache/" in name]


def test_pyproject_parses_before_rendering_too() -> None:
    """So that ruff, mypy and pytest run on the sources where they stand."""
    unrendered = tomllib.loads((TEMPLATE / "{{cookiecutter.project_slug}}" / "pyproject.toml").read_text())
    assert unrendered["tool"]["deployment"]["workers"] == 3
    assert unrendered["project"]["requires-python"] == ">=3.11"


@pytest.mark.parametrize("name", ["requirements/runtime.txt", "requirements/dev.txt", "requirements/loadtest.txt"])
def test_requirements_are_hashed_and_name_no_index(default_project: BakedProject, name: str) -> None:
    text = default_project.text(name)
    assert not re.search(r"://|--(index|extra|find)|\s/", text)
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert len(blocks) > 10
    for block in blocks:
        assert re.match(r"[a-z0-9-]+(\[\w+\])?==", block), block
        assert "--hash=sha256:" in block


def test_what_runs_is_what_was_tested(default_project: BakedProject) -> None:
    """A package of runtime.txt has the same version in dev.txt, and each one asked for is pinned."""
    pin = re.compile(r"^([a-z0-9-]+)==([^ ]+)", re.MULTILINE)
    pinned = {name: dict(pin.findall(default_project.text(f"requirements/{name}.txt"))) for name in ("runtime", "dev")}
    assert pinned["runtime"].items() <= pinned["dev"].items()
    for name, pins in pinned.items():
        asked_for = re.findall(r"^[a-z][a-z0-9-]+", default_project.text(f"requirements/{name}.in"), re.MULTILINE)
        assert set(asked_for) <= pins.keys()


def test_every_make_target_is_in_its_help(default_project: BakedProject) -> None:
    for makefile in (TEMPLATE / "Makefile", default_project.path / "Makefile"):
        listed = subprocess.run(
            ["make", "--no-print-directory", "help"], cwd=makefile.parent, check=True, capture_output=True, text=True
        ).stdout
        text = makefile.read_text(encoding="utf-8")
        phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
        assert phony
        for target in set(phony[1].split()) - {"rendered"}:
            assert re.search(rf"^  make {target} +\S", listed, re.MULTILINE), target
