"""The stack in containers, whatever else could run it: `python -m deploy.containers COMMAND`."""

import sys

from deploy.command_line import main
from deploy.containers.runtime import ContainerRuntime
from deploy.settings import PROJECT_ROOT

if __name__ == "__main__":
    sys.exit(main("deploy.containers", lambda command: ContainerRuntime(PROJECT_ROOT)))
