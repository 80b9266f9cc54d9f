"""`python -m loadtests.saturation`: see the package's docstring for the exit codes."""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()  # before anything else imports socket, ssl or threading

import sys

from ..settings import BadSettings, read_settings
from .settings import SaturationSettings


def main() -> int:
    try:
        settings = read_settings(SaturationSettings)
    except BadSettings as error:
        print(error, file=sys.stderr)
        return 2
    from .run import run  # a second's worth of imports, for those who get so far

    return run(settings)


sys.exit(main())
