"""Every test here runs on each way of the proxy, and where bytes are spliced on each event loop as well."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.deadline import eventually
from tests.proxying import Way

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The relay touches no transport, so one loop tells everything about it."""

    def is_needed(item: pytest.Item) -> bool:
        values = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        return not (Way.RELAY in values and LOOPS["uvloop"] in values)

    items[:] = filter(is_needed, items)


@pytest.fixture(params=Way, ids=lambda way: way.name.lower())
def way(request: pytest.FixtureRequest) -> Way:
    """How the proxy of the test passes on what comes after the handshake."""
    chosen: Way = request.param
    return chosen


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    before |= {task for task in (asyncio.current_task(),) if task is not None}
    await eventually(lambda: not asyncio.all_tasks() - before)
