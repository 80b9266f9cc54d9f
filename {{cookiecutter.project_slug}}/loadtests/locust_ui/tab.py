"""The tab "Delivery" of Locust's page: a row for each pair of workers. Locust 2.47 asks for it with its statistics."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from flask import Flask, Response, jsonify, request
from locust.web import WebUI

from ..audit import Audit
from ..pages.figures import milliseconds

KEY = "delivery"
COLUMNS = (
    ("sent_through", "Sent through"),
    ("received_through", "Received through"),
    ("expected", "Expected"),
    ("delivered", "Delivered"),
    ("missing", "Missing or on its way"),
    ("duplicates", "Twice"),
    ("out_of_order", "Out of order"),
    ("p50", "p50 (ms)"),
    ("p95", "p95 (ms)"),
    ("p99", "p99 (ms)"),
)
STATISTICS = "/stats/requests"
LEAST_SECONDS = 2
MAX_SHARE = 0.05
"""Of the time, that is spent on judging the ledger: it grows, and the users wait meanwhile."""


def rows(judged: Audit) -> list[dict[str, str | int]]:
    return [
        {
            "sent_through": pair.origin,
            "received_through": pair.receiver,
            "expected": pair.expected,
            "delivered": pair.delivered,
            "missing": pair.missing,
            "duplicates": pair.duplicates,
            "out_of_order": pair.out_of_order,
            **{f"p{percent}": milliseconds(pair.latency.percentile(percent / 100)) for percent in (50, 95, 99)},
        }
        for pair in judged.pairs.values()
    ]


class DeliveryTab:
    """Adds itself to the page. `judge` is asked now and then, for as much of the time as `MAX_SHARE`."""

    def __init__(self, page: WebUI, judge: Callable[[], Audit | None]) -> None:
        self._judge = judge
        self._rows: list[dict[str, str | int]] = []
        self._next = 0.0
        page.template_args |= {
            "extended_tabs": [{"title": "Delivery", "key": KEY}],
            "extended_tables": [{"key": KEY, "structure": [{"key": name, "title": title} for name, title in COLUMNS]}],
        }
        app = cast(Flask, page.app)  # None only once it is stopped
        app.after_request(self._extend)
        app.add_url_rule("/delivery", view_func=lambda: jsonify(self.rows()), endpoint=KEY)

    def rows(self) -> list[dict[str, str | int]]:
        began = time.monotonic()
        if began >= self._next:
            judged = self._judge()
            self._rows = rows(judged) if judged else []
            ended = time.monotonic()
            self._next = ended + max(LEAST_SECONDS, (ended - began) / MAX_SHARE)
        return self._rows

    def _extend(self, response: Response) -> Response:
        if request.path == STATISTICS and response.is_json:
            content: dict[str, Any] = response.get_json()
            response.set_data(jsonify({**content, "extended_stats": [{"key": KEY, "data": self.rows()}]}).get_data())
        return response
