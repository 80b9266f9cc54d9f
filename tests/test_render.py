"""`render.py`, which `make demo` renders with: nothing stale stays, and nothing that runs loses its files."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from render import render


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A rendering that has run: it has data and a report, and its `make down` notes that it was called."""
    project = render(tmp_path)
    (project / "var").mkdir()
    (project / "var" / "data").write_text("data")
    (project / "loadtests" / "reports").mkdir(parents=True, exist_ok=True)
    (project / "loadtests" / "reports" / "latest.json").write_text("{}")
    (project / "Makefile").write_text("down:\n\t@echo stopped >var/calls\n")
    return project


def test_the_makefile_knows_where_the_project_is(tmp_path: Path) -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert f"PROJECT := build/{render(tmp_path).name}\n" in makefile


def test_an_unchanged_project_is_left_alone(tmp_path: Path) -> None:
    project = render(tmp_path)
    (project / "var").mkdir()
    before = project.stat().st_ino, (project / "Makefile").stat().st_ino
    assert render(tmp_path) == project
    assert (project.stat().st_ino, (project / "Makefile").stat().st_ino) == before


def test_a_changed_project_is_stopped_before_it_is_replaced(project: Path) -> None:
    render(project.parent)
    assert (project / "var" / "calls").read_text() == "stopped\n"
    assert "help:" in (project / "Makefile").read_text()


def test_data_reports_and_secrets_stay(project: Path) -> None:
    secrets = (project / ".env").read_text()
    render(project.parent)
    assert (project / "var" / "data").read_text() == "data"
    assert (project / "loadtests" / "reports" / "latest.json").read_text() == "{}"
    assert (project / ".env").read_text() == secrets


def test_no_file_of_an_older_rendering_stays(project: Path) -> None:
    (project / "src" / "stale.py").write_text("")
    (project.parent / ".rendered").write_text("of an older template")
    render(project.parent)
    assert not (project / "src" / "stale.py").exists()


def test_a_project_that_cannot_be_stopped_is_not_replaced(project: Path) -> None:
    (project / "Makefile").write_text("down:\n\t@exit 1\n")
    with pytest.raises(Exception, match="non-zero exit status"):
        render(project.parent)
    assert (project / "var" / "data").read_text() == "data"


@pytest.mark.parametrize(("step", "argument"), [("rmtree", 0), ("copytree", 1)])
def test_one_that_is_cut_short_loses_nothing_and_is_made_whole_by_the_next(
    project: Path, step: str, argument: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = (project / ".env").read_text()
    done = getattr(shutil, step)

    def cut_short(*arguments: Any, **options: Any) -> Any:
        folder = Path(arguments[argument])
        if project in (folder, *folder.parents):
            raise KeyboardInterrupt
        return done(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, step, cut_short)
        with pytest.raises(KeyboardInterrupt):
            render(project.parent)
    assert not (project / "Makefile").exists()
    render(project.parent)
    assert "help:" in (project / "Makefile").read_text()
    assert (project / "src").is_dir()
    assert (project / "var" / "data").read_text() == "data"
    assert (project / "loadtests" / "reports" / "latest.json").read_text() == "{}"
    assert (project / ".env").read_text() == secrets
