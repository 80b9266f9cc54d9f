"""The stack, in containers or as local processes: `python -m deploy COMMAND`."""

import os
import sys

from deploy.choice import choose
from deploy.command_line import main
from deploy.say import say
from deploy.settings import PROJECT_ROOT

if __name__ == "__main__":
    sys.exit(main("deploy", lambda command: choose(PROJECT_ROOT, command, os.environ, say)))
