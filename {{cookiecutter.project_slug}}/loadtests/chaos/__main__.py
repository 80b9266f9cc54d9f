"""`python -m loadtests.chaos`: see the package's docstring for the exit codes."""

import sys

from ..settings import BadSettings, read_settings
from .settings import ChaosSettings


def main() -> int:
    try:
        settings = read_settings(ChaosSettings)
    except BadSettings as error:
        print(error, file=sys.stderr)
        return 2
    from .run import run  # a second's worth of imports, for those who get so far

    return run(settings)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # before there was anything to undo
        sys.exit(130)
