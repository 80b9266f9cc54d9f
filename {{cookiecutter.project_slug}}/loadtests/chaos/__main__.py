"""`python -m loadtests.chaos`: see the package's docstring for the exit codes."""

import sys

from ..start import settings_or_exit
from .settings import ChaosSettings


def main() -> int:
    settings = settings_or_exit(ChaosSettings)
    from .run import run  # a second's worth of imports, for those who get so far

    return run(settings)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was anything to undo
        sys.exit(130)
