"""`python -m loadtests`: see the package's docstring for the exit codes."""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()  # before anything else imports socket, ssl or threading

import sys

from .settings import Settings
from .start import settings_or_exit, sign_in_or_exit


def main() -> int:
    settings = settings_or_exit(Settings)
    login_token = sign_in_or_exit(settings)
    # A second's worth of imports, for those who get so far.
    if settings.processes == 1:
        from .run import LoadTest

        return LoadTest(settings, login_token).run()
    from .distributed.master import here

    return here(settings)


sys.exit(main())
