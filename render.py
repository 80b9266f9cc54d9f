"""Render the template with its defaults into a folder, over what an earlier rendering left there.

What the project wrote at run time stays, and so does the whole tree when nothing changed: a running stack goes on
running. Otherwise the stack is stopped first, since its code is about to be replaced.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

TEMPLATE = Path(__file__).parent
COOKIECUTTER = (sys.executable, "-m", "cookiecutter")

# Written at run time, or with secrets that a data folder was made with.
KEPT = (".env", "var", "loadtests/reports")


# What tools and runs leave in a template that somebody works on. The hook would remove it from the project again, but
# a copy of it for each rendering can take minutes.
LEFT_BEHIND = ("__pycache__", ".*_cache", ".hypothesis", ".coverage", ".env", "var", "reports")


def copy_template(into: Path) -> Path:
    """Copy what cookiecutter needs of the template, as a clone has it. Returns the copy's folder."""
    copy = into / "template"
    for folder in ("hooks", "{{cookiecutter.project_slug}}"):
        shutil.copytree(TEMPLATE / folder, copy / folder, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    shutil.copy(TEMPLATE / "cookiecutter.json", copy)
    return copy


def files_of(project: Path) -> dict[str, bytes]:
    """Relative path to contents, of everything that the template alone decides."""
    return {
        file.relative_to(project).as_posix(): file.read_bytes()
        for file in sorted(project.rglob("*"))
        if file.is_file() and file.name != ".env"
    }


def digest_of(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, contents in files.items():
        digest.update(f"{name}\0{len(contents)}\0".encode())
        digest.update(contents)
    return digest.hexdigest()


def is_unchanged(project: Path, files: dict[str, bytes], last_digest: Path) -> bool:
    """Whether `project` is the rendering `files`, with nothing left of an older one and nothing edited by hand."""
    if not last_digest.is_file() or last_digest.read_text() != digest_of(files):
        return False
    return all((project / name).is_file() and (project / name).read_bytes() == files[name] for name in files)


def replace(project: Path, fresh: Path) -> None:
    """Put `fresh` in the place of `project` and move what is kept over to it."""
    if (project / "var").is_dir():
        subprocess.run(["make", "--no-print-directory", "-C", project, "VENV=../venv", "down"], check=True)
    for name in KEPT:
        if (project / name).exists():
            kept = fresh / name
            if kept.is_dir():
                shutil.rmtree(kept)
            kept.parent.mkdir(parents=True, exist_ok=True)
            (project / name).replace(kept)
    if project.exists():
        shutil.rmtree(project)
    fresh.replace(project)


def render(into: Path) -> Path:
    """Return the project's folder."""
    workshop = into / ".rendering"
    shutil.rmtree(workshop, ignore_errors=True)
    output = workshop / "output"
    output.mkdir(parents=True)
    subprocess.run(
        [*COOKIECUTTER, copy_template(workshop), "--no-input", "--default-config", "--output-dir", output],
        check=True,
        stdout=subprocess.DEVNULL,  # the last words of the hook speak of a folder that is about to move
    )
    (fresh,) = output.iterdir()
    project, last_digest, files = into / fresh.name, into / ".rendered", files_of(fresh)
    if not is_unchanged(project, files, last_digest):
        last_digest.unlink(missing_ok=True)
        replace(project, fresh)
        last_digest.write_text(digest_of(files))
    shutil.rmtree(workshop)
    return project


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("into", type=Path, help="the folder that the project's folder lies in")
    sys.stdout.write(f"The project is in {render(parser.parse_args().into)}\n")
