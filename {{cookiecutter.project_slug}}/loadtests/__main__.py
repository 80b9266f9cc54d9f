"""`python -m loadtests`: see the package's docstring for the exit codes."""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()  # before anything else imports socket, ssl or threading

import sys

from .settings import BadSettings, Settings, read_settings


def main() -> int:
    try:
        settings = read_settings(Settings)
    except BadSettings as error:
        print(error, file=sys.stderr)
        return 2
    from .run import run  # a second's worth of imports, for those who get so far

    if settings.processes == 1:
        return run(settings)
    from .distributed.master import here

    return run(settings, here)


sys.exit(main())
