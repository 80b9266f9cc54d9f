"""`python -m deploy.monitoring`: Prometheus and Grafana beside the stack in containers; `down` stops them with it.

For a stack of local processes it writes `var/monitoring/prometheus.yml`, and says how to start Prometheus with it.
"""

import os
import sys

from deploy.command_line import exit_code_of
from deploy.containers import readiness
from deploy.containers.compose import Compose
from deploy.containers.engine import missing_reason
from deploy.containers.layout import ContainerLayout, read_record
from deploy.errors import EngineMissing
from deploy.local.layout import read_layout
from deploy.local.records import read_stack
from deploy.monitoring.scraping import write_local
from deploy.probe import HOST
from deploy.say import say
from deploy.settings import PROJECT_ROOT

SERVICES = ("prometheus", "grafana")
PULL_SECONDS = 1800


def main() -> int:
    """Raises `StackError`. Returns the exit code."""
    containers = read_record(PROJECT_ROOT)
    if containers is not None:
        start_beside(containers)
        return 0
    local = read_stack(PROJECT_ROOT)
    path = write_local(local.layout if local else read_layout(PROJECT_ROOT, os.environ))
    say(f"{path}: prometheus --config.file={path} --storage.tsdb.path={path.parent / 'data'}")
    return 0


def start_beside(layout: ContainerLayout) -> None:
    """Returns when both are healthy. Raises `StackError`."""
    if reason := missing_reason():
        raise EngineMissing(f"Containers cannot be run: {reason}.")
    Compose(layout).run("pull", "--policy", "missing", *SERVICES, seconds=PULL_SECONDS)
    readiness.start(layout, SERVICES, recreate=False)
    say(f"Grafana: http://{HOST}:{layout.grafana_port}/")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
