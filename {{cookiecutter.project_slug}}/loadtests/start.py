"""How a program begins that loads the stack. What is wrong by then is said on stderr, and ends it.

It imports little: whoever is turned away here has not waited a second for gevent and Locust.
"""

from __future__ import annotations

import logging
import sys

from .login import LoginFailed, NobodyAnswers, sign_up_and_in
from .settings import AnySettings, BadSettings, Settings, read_settings

FAILED = 1
COULD_NOT_RUN = 2


def settings_or_exit(settings_class: type[AnySettings]) -> AnySettings:
    """Raises `SystemExit`: `COULD_NOT_RUN` where a value is bad, with a line for each."""
    try:
        return read_settings(settings_class)
    except BadSettings as error:
        print(error, file=sys.stderr)
        sys.exit(COULD_NOT_RUN)


def sign_in_or_exit(settings: Settings) -> str:
    """The access token of a new user. Raises `SystemExit`: `COULD_NOT_RUN` where nobody answers, `FAILED` where the
    gateway does and gives no token."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return sign_up_and_in(settings.http_url)
    except NobodyAnswers as error:
        print(f"Nothing answers at {error}. `make up` starts the stack.", file=sys.stderr)
        sys.exit(COULD_NOT_RUN)
    except LoginFailed as error:
        print(f"FAILED: sign-up and sign-in do not work: {error}", file=sys.stderr)
        sys.exit(FAILED)
