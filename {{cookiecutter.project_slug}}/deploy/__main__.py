"""The stack, in containers or as local processes: `python -m deploy COMMAND`."""

import sys

from deploy.command_line import main
from deploy.local.runtime import LocalRuntime
from deploy.settings import PROJECT_ROOT

if __name__ == "__main__":
    sys.exit(main("deploy", lambda command: LocalRuntime(PROJECT_ROOT)))
