"""`/metrics`, for Prometheus. The balancer passes no request for it; what each metric means is in its HELP line."""

from collections.abc import Iterable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Metric, generate_latest
from prometheus_client.registry import Collector

WORKER_PREFIX = "ws_"
GATEWAY_PREFIX = "gateway_"


class _Without(Collector):
    """All that this process counts, without what the other kind of process would."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def collect(self) -> Iterable[Metric]:
        return (metric for metric in REGISTRY.collect() if not metric.name.startswith(self._prefix))


def metrics_route(*, without: str) -> APIRouter:
    """The library's metrics, the service's, and what `prometheus_client` says of each process (`process_open_fds`)."""
    routes = APIRouter()
    counted = _Without(without)

    @routes.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(counted), media_type=CONTENT_TYPE_LATEST)

    return routes
