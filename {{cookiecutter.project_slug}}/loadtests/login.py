"""A real sign-up and sign-in through the gateway, once per run: the way in that people take."""

from __future__ import annotations

import json
import secrets
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 15


class LoginFailed(Exception):
    """The gateway answered, but not with a token."""


class NobodyAnswers(Exception):
    """There is no gateway at the address."""


def sign_up_and_in(http_url: str) -> str:
    """The access token of a new user. Raises `LoginFailed` and `NobodyAnswers`."""
    username, password = f"loadtest-{secrets.token_hex(4)}", secrets.token_urlsafe(18)
    account = json.dumps({"username": username, "password": password}).encode()
    _post(f"{http_url}/api/users", account, "application/json", expected=201)
    form = urlencode({"grant_type": "password", "username": username, "password": password}).encode()
    answer = _post(f"{http_url}/api/token", form, "application/x-www-form-urlencoded", expected=200)
    try:
        return str(json.loads(answer)["access_token"])
    except (ValueError, KeyError, TypeError) as error:
        raise LoginFailed(f"POST {http_url}/api/token answered without an access_token") from error


def _post(url: str, body: bytes, content_type: str, *, expected: int) -> bytes:
    request = Request(url, body, {"Content-Type": content_type}, method="POST")
    try:
        with urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            status, answer = int(response.status), bytes(response.read())
    except HTTPError as error:
        with error:
            raise LoginFailed(f"POST {url} answered {error.code}: {error.read(200)!r}") from error
    except (URLError, OSError) as error:
        raise NobodyAnswers(f"{url}: {getattr(error, 'reason', error)}") from error
    if status != expected:
        raise LoginFailed(f"POST {url} answered {status} instead of {expected}")
    return answer
