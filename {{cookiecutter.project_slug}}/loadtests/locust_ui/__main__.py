"""`python -m loadtests.locust_ui`"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()  # before anything else imports socket, ssl or threading

import sys

from ..settings import BadSettings, read_settings
from .settings import LocustSettings


def main() -> int:
    try:
        settings = read_settings(LocustSettings)
    except BadSettings as error:
        print(error, file=sys.stderr)
        return 2
    from .serve import serve  # a second's worth of imports, for those who get so far

    return serve(settings)


sys.exit(main())
