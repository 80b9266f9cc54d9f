"""Render the template with its defaults into a folder, over what an earlier rendering left there.

What the project wrote at run time stays, and so does the whole tree when nothing changed: a running stack goes on
running. Otherwise the stack is stopped first, since its code is about to be replaced.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
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


def remove(path: Path, kept: Sequence[Path] = ()) -> None:
    """Remove a file or folder, except what is kept and the folders that this lies in."""
    if path in kept:
        return
    if not path.is_dir() or path.is_symlink():
        path.unlink()
    elif any(path in one.parents for one in kept):
        for entry in [*path.iterdir()]:
            remove(entry, kept)
    else:
        shutil.rmtree(path)


def replace(project: Path, fresh: Path) -> None:
    """Put `fresh` in the place of `project`, around what is kept. Cut short anywhere, it can be done again.

    The Makefile goes first and comes last: a project without one is not whole, and nothing of it runs.
    """
    makefile = project / "Makefile"
    if makefile.exists() and (project / "var").is_dir():
        subprocess.run(["make", "--no-print-directory", "-C", project, "VENV=../venv", "down"], check=True)
    makefile.unlink(missing_ok=True)
    kept = [project / name for name in KEPT if (project / name).exists()]
    if project.exists():
        remove(project, kept)
    for path in kept:
        if (fresh / path.relative_to(project)).exists():
            remove(fresh / path.relative_to(project))
    shutil.copytree(fresh, project, dirs_exist_ok=True, ignore=shutil.ignore_patterns("Makefile"))
    (fresh / "Makefile").replace(makefile)


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
