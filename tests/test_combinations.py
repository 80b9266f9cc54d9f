"""Named combinations of answers: what was not chosen is absent, nothing mentions it, and what is left is whole."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from baked_project import TEMPLATE, BakedProject, bake, leftovers, parse_all

pytestmark = pytest.mark.slow

EVERYTHING_OFF: dict[str, str | int] = {
    "delivery": "at-most-once",
    "monitoring": "no",
    "kubernetes": "no",
    "ci": "none",
    "license": "Proprietary",
}
COMBINATIONS: dict[str, dict[str, str | int]] = {
    "everything on": {},
    "everything off": EVERYTHING_OFF,
    "at most once": {"delivery": "at-most-once"},
    "without monitoring": {"monitoring": "no"},
    "without kubernetes": {"kubernetes": "no"},
    "without ci": {"ci": "none"},
    "Apache": {"license": "Apache-2.0"},
    "BSD": {"license": "BSD-3-Clause"},
    "proprietary": {"license": "Proprietary"},
    "python 3.12": {"python_version": "3.12"},
    "python 3.13": {"python_version": "3.13"},
    "one worker": {"workers": 1},
    "most workers": {"workers": 64},
    "hostile": {
        "project_name": '2nd "Chat" \\ o\'Neill \N{ROCKET} <b> | $HOME `id` # %s',
        "description": 'line one\r\nline "two" \'\'\' """ \\u0041 \\ <3',
        "author": 'O\'Neill "The" Ünïcödé \\ 分布式',
        "package_name": "zz_chat",
        **EVERYTHING_OFF,
    },
}

ABSENT = {
    ("ci", "none"): [".github"],
    ("delivery", "at-most-once"): ["loadtests/chaos", "tests/e2e/test_chaos.py"],
    ("kubernetes", "no"): ["deploy/kubernetes", "tests/integration/test_kubernetes.py"],
    ("monitoring", "no"): [
        "deploy/monitoring",
        "deploy/kubernetes/components/monitoring",
        "tests/integration/test_monitoring.py",
    ],
}
"""What each answer leaves out, and all other answers do not."""
UNSPOKEN = {
    ("ci", "none"): r"\.github/|GitHub Actions",
    ("delivery", "at-most-once"): r"chaos",
    ("kubernetes", "no"): r"kubernetes|kubectl",
    ("monitoring", "no"): r"grafana|deploy[./]monitoring|components/monitoring|promtool",
}
"""What no text of the project mentions then."""

# The parts of the generated project's own tests that read its files; `make test` runs all of them on the defaults.
QUICK_TESTS = ("tests/unit/test_compose.py", "tests/unit/test_local_deployment.py", "tests/unit/test_settings.py")
QUICK_PATTERNS = ("tests/unit/test_*document*.py",)
TYPED = ("everything off", "at most once", "hostile")
"""Where mypy runs: where Python files are missing. It takes most of the time; `make test` runs it on the defaults."""

COMMANDS_SECONDS = 600


class Check(NamedTuple):
    combination: str
    name: str


def has_compose() -> bool:
    run = subprocess.run(["docker", "compose", "version"], capture_output=True) if shutil.which("docker") else None
    return run is not None and run.returncode == 0


def commands(name: str, project: Path, cache: Path) -> dict[str, list[str]]:
    """Those of one combination, by what they check."""
    quick = [*QUICK_TESTS, *(str(path.relative_to(project)) for each in QUICK_PATTERNS for path in project.glob(each))]
    pytest_command = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    found = {
        "ruff": ["-m", "ruff", "check", "--no-cache", "."],
        "format": ["-m", "ruff", "format", "--no-cache", "--check", "."],
    }
    if name in TYPED or name == "without monitoring":
        found["its tests are importable"] = [*pytest_command, "--collect-only", "-qq"]
    if name != "everything on":
        found["its quick tests"] = [*pytest_command, *(path for path in quick if (project / path).exists())]
    if name in TYPED:
        found["mypy"] = ["-m", "mypy", "--cache-dir", str(cache)]
    return found


class Bench:
    """Bakes and checks in the background; mypy in a lane of its own, since all its runs share a cache."""

    def __init__(self, folder: Path, python: Path) -> None:
        self._folder = folder
        self._python = python
        self._pool = ThreadPoolExecutor(max(2, os.cpu_count() or 2))
        self._typing = ThreadPoolExecutor(1)
        self.projects: dict[str, Future[BakedProject]] = {}
        self.checks: dict[Check, Future[subprocess.CompletedProcess[str]]] = {}

    def start(self, name: str) -> None:
        self.projects[name] = self._pool.submit(self._bake, name)

    def run(self, check: Check) -> subprocess.CompletedProcess[str] | None:
        """None where the combination has no such check."""
        project = self.projects[check.combination].result()
        command = commands(check.combination, project.path, self._folder / "mypy").get(check.name)
        if command is None:
            return None
        if check not in self.checks:
            pool = self._typing if check.name == "mypy" else self._pool
            self.checks[check] = pool.submit(self._run, project.path, command)
        return self.checks[check].result()

    def begin(self) -> None:
        """Everything that will be asked for, what takes longest first."""
        for name in sorted(self.projects, key=lambda name: name not in TYPED):
            project = self.projects[name].result().path
            for check, command in reversed(commands(name, project, self._folder / "mypy").items()):
                pool = self._typing if check == "mypy" else self._pool
                self.checks[Check(name, check)] = pool.submit(self._run, project, command)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._typing.shutdown(cancel_futures=True)

    def _bake(self, name: str) -> BakedProject:
        into = self._folder / re.sub(r"\W", "-", name)
        into.mkdir()
        return bake(into, **COMBINATIONS[name])

    def _run(self, project: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
        nothing_left_behind = {
            "PYTHONPATH": "src",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self._folder / "hypothesis"),
        }
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("CHAT_", "MAKE"))}
        return subprocess.run(
            [str(self._python), *command],
            cwd=project,
            env=outside | nothing_left_behind,
            capture_output=True,
            text=True,
            timeout=COMMANDS_SECONDS,
        )


@pytest.fixture(scope="module")
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, installed_python: Path
) -> Iterator[Bench]:
    """Starts what the selected tests will ask for."""
    bench = Bench(tmp_path_factory.mktemp("combinations"), installed_python)
    here = [
        item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module
    ]
    asked = [item.callspec.params for item in here if hasattr(item, "callspec")]
    for name in COMBINATIONS:
        if any(params.get("name") == name for params in asked):
            bench.start(name)
    if any("check" in params for params in asked):
        bench.begin()
    yield bench
    bench.close()


@pytest.fixture
def project(bench: Bench, name: str) -> BakedProject:
    return bench.projects[name].result()


each_combination = pytest.mark.parametrize("name", COMBINATIONS)


@each_combination
def test_no_placeholder_is_left_and_every_file_parses(project: BakedProject) -> None:
    assert leftovers(project) == []
    parse_all(project)


@each_combination
def test_what_was_not_chosen_is_absent_and_what_was_chosen_is_there(project: BakedProject, name: str) -> None:
    left_out = {
        path for (question, answer), paths in ABSENT.items() for path in paths if chosen(name, question, answer)
    }
    for path in {path for paths in ABSENT.values() for path in paths}:
        gone = any(path == one or path.startswith(f"{one}/") for one in left_out)
        assert (project.path / path).exists() is not gone, path


@each_combination
def test_nothing_mentions_what_is_not_there(project: BakedProject, name: str) -> None:
    unspoken = [words for (question, answer), words in UNSPOKEN.items() if chosen(name, question, answer)]
    found = [
        f"{file}: {line.strip()}"
        for file in project.files()
        if not file.endswith((".py", ".png", "requirements/dev.txt"))  # Python files are the same for all
        for line in project.text(file).splitlines()
        for words in unspoken
        if re.search(words, line, re.IGNORECASE)
    ]
    assert found == []


def chosen(name: str, question: str, answer: str) -> bool:
    return COMBINATIONS[name].get(question) == answer


@each_combination
@pytest.mark.parametrize("check", ["mypy", "ruff", "format", "its tests are importable", "its quick tests"])
def test_the_projects_own_tools_find_no_fault(bench: Bench, name: str, check: str) -> None:
    run = bench.run(Check(name, check))
    if run is not None:  # not every check is made on every combination
        assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(not has_compose(), reason="no docker compose here: the compose files were only parsed")
@pytest.mark.parametrize("name", ["everything on", "everything off", "hostile"])
def test_compose_accepts_its_files(project: BakedProject, tmp_path: Path) -> None:
    copy = shutil.copytree(project.path, tmp_path / "project")
    folder = copy / "var" / "containers"
    folder.mkdir(parents=True)
    (folder / "service.env").touch()
    files = [path for path in ("compose.yaml", "deploy/monitoring/compose.yaml") if (copy / path).exists()]
    run = subprocess.run(
        [
            *("docker", "compose", "--project-name", "chat", "--project-directory", copy, "--profile", "*"),
            *(part for path in files for part in ("--file", copy / path)),
            *("config", "--quiet"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(("name", "words"), [
    ("everything on", "MIT License"),
    ("Apache", "Apache License"),
    ("BSD", "BSD 3-Clause License"),
    ("proprietary", "All rights reserved."),
])  # fmt: skip
def test_the_licence_is_the_chosen_one_and_names_its_holder(project: BakedProject, name: str, words: str) -> None:
    text = project.text("LICENSE")
    assert words in text.splitlines()[0] + text
    assert re.search(r"Copyright (\(c\) )?20\d\d Your Name\b", text)
    assert not text.startswith("\n")
    expected = {"Proprietary": "LicenseRef-Proprietary"}
    answer = str(COMBINATIONS[name].get("license", "MIT"))
    assert project.toml()["project"]["license"] == expected.get(answer, answer)


# The workflow

linter: Callable[..., Any] = pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"],
        [str(Path(sys.executable).with_name("zizmor")), "--offline", "--no-progress", "--pedantic"],
        ["actionlint"],
    ],
    ids=["schema", "zizmor", "actionlint"],
)


@linter
@pytest.mark.parametrize("name", ["everything on", "python 3.13"])
def test_the_workflow_is_linted(project: BakedProject, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here")
    run = subprocess.run([*command, project.path / ".github/workflows/ci.yml"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("name", "pythons"), [
    ("everything on", ["3.11", "3.13"]),
    ("python 3.12", ["3.12", "3.13"]),
    ("python 3.13", ["3.13"]),
])  # fmt: skip
def test_the_workflow_runs_the_projects_own_targets(project: BakedProject, pythons: list[str]) -> None:
    jobs = yaml.safe_load(project.text(".github/workflows/ci.yml"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == pythons
    ran = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert ran == ["make lint", "make test"]
    assert all("timeout-minutes" in job for job in jobs.values())


def test_what_an_answer_leaves_out_is_in_the_template() -> None:
    """A pattern or a line that finds nothing belongs to a file that was renamed."""
    text = (TEMPLATE / "hooks" / "post_gen_project.py").read_text("utf-8")
    namespace: dict[str, Any] = {}
    tables = re.findall(r"^LEFT_OUT\w*: .*?^[)}]$", text, re.MULTILINE | re.DOTALL)
    assert len(tables) == 2
    exec("\n".join(tables), namespace)
    folder = TEMPLATE / "{{cookiecutter.project_slug}}"
    for patterns in namespace["LEFT_OUT"].values():
        for pattern in patterns:
            assert [*folder.glob(pattern)], pattern
    for _, _, file, line in namespace["LEFT_OUT_LINES"]:
        assert f"\n{line}\n" in (folder / file).read_text("utf-8")
