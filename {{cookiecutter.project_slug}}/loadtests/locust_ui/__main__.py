"""`python -m loadtests.locust_ui`"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()  # before anything else imports socket, ssl or threading

import sys

from ..start import settings_or_exit, sign_in_or_exit
from .settings import LocustSettings


def main() -> int:
    settings = settings_or_exit(LocustSettings)
    login_token = sign_in_or_exit(settings)
    from .serve import serve  # a second's worth of imports, for those who get so far

    return serve(settings, login_token)


sys.exit(main())
