"""`python -m deploy.monitoring`: Prometheus and Grafana beside the stack in containers; `down` stops them with it.

For a stack of local processes it writes `var/monitoring/prometheus.yml`, and says how to start Prometheus with it.
"""

import os
import sys

from deploy.containers import readiness
from deploy.containers.compose import Compose
from deploy.containers.engine import missing_reason
from deploy.containers.layout import ContainerLayout, read_record
from deploy.errors import EngineMissing, StackError
from deploy.local.layout import read_layout
from deploy.monitoring.scraping import write_local
from deploy.probe import HOST
from deploy.settings import PROJECT_ROOT

SERVICES = ("prometheus", "grafana")
PULL_SECONDS = 1800


def main() -> int:
    try:
        containers = read_record(PROJECT_ROOT)
        if containers is not None:
            start_beside(containers)
            return 0
        path = write_local(read_layout(PROJECT_ROOT, os.environ))
    except StackError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{path}: prometheus --config.file={path} --storage.tsdb.path={path.parent / 'data'}")
    return 0


def start_beside(layout: ContainerLayout) -> None:
    """Returns when both are healthy. Raises `StackError`."""
    if reason := missing_reason():
        raise EngineMissing(f"Containers cannot be run: {reason}.")
    Compose(layout).run("pull", "--policy", "missing", *SERVICES, seconds=PULL_SECONDS)
    readiness.start(layout, SERVICES, recreate=False)
    print(f"Grafana: http://{HOST}:{layout.grafana_port}/")


if __name__ == "__main__":
    sys.exit(main())
