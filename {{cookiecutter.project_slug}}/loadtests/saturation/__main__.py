"""`python -m loadtests.saturation`: see the package's docstring for the exit codes."""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()  # before anything else imports socket, ssl or threading

import sys

from ..start import settings_or_exit, sign_in_or_exit
from .settings import SaturationSettings


def main() -> int:
    settings = settings_or_exit(SaturationSettings)
    login_token = sign_in_or_exit(settings)
    from .run import run  # a second's worth of imports, for those who get so far

    return run(settings, login_token)


sys.exit(main())
