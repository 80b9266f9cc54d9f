"""The service package, whose name no test knows: pyproject.toml does.

Run as a program, `python tests/service.py chat`, it starts a process of a service that has no importable name yet, as
the sources of a template have none.
"""

import importlib
import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
PACKAGE: str = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["deployment"]["package"]
_NAMELESS = "service_package"


def load(module: str) -> ModuleType:
    """The module of the service with that name, `settings` or `gateway.app` for instance."""
    return importlib.import_module(f"{_importable()}.{module}")


def command(process: str, root: Path = ROOT) -> list[str]:
    """What starts `chat` or `gateway` of the project in `root`; with its src/ on the PYTHONPATH."""
    if PACKAGE.isidentifier():
        return [sys.executable, "-m", f"{PACKAGE}.{process}"]
    return [sys.executable, str(root / "tests" / "service.py"), process]


def _importable() -> str:
    if PACKAGE.isidentifier():
        return PACKAGE
    if _NAMELESS not in sys.modules:
        (folder,) = (path.parent for path in (ROOT / "src").glob("*/__init__.py") if (path.parent / "gateway").is_dir())
        spec = importlib.util.spec_from_file_location(
            _NAMELESS, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[_NAMELESS] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[_NAMELESS])
    return _NAMELESS


if __name__ == "__main__":
    load(f"{sys.argv[1]}.__main__").main()
