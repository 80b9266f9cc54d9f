"""`python -m loadtests.distributed master` and `python -m loadtests.distributed worker HOST:PORT`"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()  # before anything else imports socket, ssl or threading

import argparse
import sys

from ..settings import Settings
from ..start import settings_or_exit, sign_in_or_exit


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.distributed")
    roles = parser.add_subparsers(dest="role", required=True)
    roles.add_parser("master", help="wait for LOADTEST_PROCESSES workers, and judge what they find")
    roles.add_parser("worker", help="be one of them").add_argument("master", metavar="HOST:PORT")
    options = parser.parse_args()
    settings = settings_or_exit(Settings)
    # A second's worth of imports, for those who get so far.
    if options.role == "worker":
        from .generator import serve

        host, _, port = options.master.rpartition(":")
        return serve(settings, host, int(port))
    sign_in_or_exit(settings)
    from .master import elsewhere

    return elsewhere(settings)


sys.exit(main())
