"""The stack as processes of this machine, whatever else could run it: `python -m deploy.local COMMAND`."""

import sys

from deploy.command_line import main
from deploy.local.runtime import LocalRuntime
from deploy.settings import PROJECT_ROOT

if __name__ == "__main__":
    sys.exit(main("deploy.local", lambda command: LocalRuntime(PROJECT_ROOT)))
