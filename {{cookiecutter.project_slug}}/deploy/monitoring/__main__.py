"""`python -m deploy.monitoring`: writes `var/monitoring/prometheus.yml` for the stack that runs without containers."""

import os
import sys

from deploy.errors import BadSetting
from deploy.local.layout import read_layout
from deploy.monitoring.scraping import write_local
from deploy.settings import PROJECT_ROOT


def main() -> int:
    try:
        path = write_local(read_layout(PROJECT_ROOT, os.environ))
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{path}: prometheus --config.file={path} --storage.tsdb.path={path.parent / 'data'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
