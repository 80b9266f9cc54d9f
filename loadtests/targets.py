"""What the template promises of itself, and whether a comparison found it to be so. Ratios are within one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from .bench import Measurement

RATE, P99, CPU = "deliveries_per_second", "p99_ms", "cpu_us_per_delivery"
SEARCHED = (RATE, "messages_per_second")


class Unknown(Exception):
    """What a target compares was not measured; says which."""


class Medians:
    """The median over the rounds of any figure."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._measurements = list(measurements)

    def __call__(self, contender: str, workload: str, figure: str) -> float:
        values = [
            one.figures[figure]
            for one in self._measurements
            if (one.contender, one.workload) == (contender, workload) and figure in one.figures
        ]
        if not values:
            raise Unknown(f"{contender} in {workload}")
        return median(values)

    def full_core(self, contender: str, workload: str, figure: str) -> float:
        """A rate as measured; where the client ended the search, what a full core carries at the same cost."""
        rate = self(contender, workload, figure)
        if not any(
            one.client_limited for one in self._measurements if (one.contender, one.workload) == (contender, workload)
        ):
            return rate
        busy = self(contender, workload, CPU) * self(contender, workload, RATE) / 1e6
        return rate / min(1.0, busy) if busy else rate


@dataclass(frozen=True)
class Target:
    title: str
    wanted: float
    measured: Callable[[Medians], float]
    at_most: bool = False
    unit: str = ""

    def row(self, medians: Medians) -> tuple[str, str, str, str]:
        """Target, wanted, measured, whether it was met."""
        wanted = f"{'≤' if self.at_most else '≥'} {shown(self.wanted, self.unit)}"
        try:
            value = self.measured(medians)
        except Unknown as exc:
            return self.title, wanted, f"not measured: {exc}", "–"
        met = value <= self.wanted if self.at_most else value >= self.wanted
        return self.title, wanted, shown(value, self.unit), "met" if met else "**not met**"


def shown(value: float, unit: str) -> str:
    if unit == "×":
        return f"× {value:.{0 if value >= 20 else 2}f}"
    return f"{value:,.{0 if value >= 100 else 2}f}{unit and ' '}{unit}"


def over(workload: str, figure: str, other: str, ours: str = "template") -> Callable[[Medians], float]:
    """Ours divided by the other's."""

    def measured(medians: Medians) -> float:
        theirs = (medians.full_core if figure in SEARCHED else medians)(other, workload, figure)
        if not theirs:
            raise Unknown(f"{other} in {workload} shows 0")
        return medians(ours, workload, figure) / theirs

    return measured


def of(workload: str, figure: str, scale: float = 1.0, ours: str = "template") -> Callable[[Medians], float]:
    return lambda medians: medians(ours, workload, figure) * scale


def write_ratio(medians: Medians) -> float:
    """CPU for a write, against the bare loop's. Deliveries that shared a write are no cheaper write."""

    def cpu_us(contender: str) -> float:
        together = medians(contender, "one_room_50k", "deliveries_per_write")  # 0: not counted, and never together
        return medians(contender, "one_room_50k", CPU) * max(1.0, together)

    return cpu_us("template") / cpu_us("bare_send")


def added_p50_ms(medians: Medians) -> float:
    through, direct = (medians(name, "gateway_unloaded", "p50_ms") for name in ("template_gateway", "direct"))
    return through - direct


def gateway_ratio(medians: Medians) -> float:
    """Deliveries that one core of a gateway passes on, against the original's proxy."""
    return over("gateway", "deliveries_per_core", "original_gateway", "template_gateway")(medians)


TARGETS = (
    Target("one room, sustained: deliveries/s", 2_000_000, of("one_room", RATE)),
    Target("one room, sustained: the original", 40, over("one_room", RATE, "original"), unit="×"),
    Target("one room, sustained: the usual loop", 25, over("one_room", RATE, "usual_loop"), unit="×"),
    Target("one room, sustained: Socket.IO on Node", 25, over("one_room", RATE, "socketio_node"), unit="×"),
    Target("one room, sustained: nchan", 10, over("one_room", RATE, "nchan"), unit="×"),
    Target(
        "one room at 50,000 deliveries/s: p99 ÷ the usual loop's",
        1 / 3,
        over("one_room_50k", P99, "usual_loop"),
        at_most=True,
        unit="×",
    ),
    Target("many rooms: messages/s in", 8_000, of("many_rooms", "messages_per_second")),
    Target("many rooms: the usual loop", 4, over("many_rooms", "messages_per_second", "usual_loop"), unit="×"),
    Target("CPU per socket write ÷ a bare send's", 1.5, write_ratio, at_most=True, unit="×"),
    Target("idle, 1,000 connections: CPU", 1, of("idle_1000", "cpu", 100), at_most=True, unit="% of a core"),
    Target(
        "idle: memory per connection", 20, of("idle_1000", "bytes_per_connection", 1 / 1024), at_most=True, unit="KiB"
    ),
    Target("storm: the usual loop's handshakes/s", 1.5, over("storm", "handshakes_per_second", "usual_loop"), unit="×"),
    Target(
        "through the gateway: deliveries/s per gateway core",
        500_000,
        of("gateway", "deliveries_per_core", ours="template_gateway"),
    ),
    Target("through the gateway, per core: the original's proxy", 15, gateway_ratio, unit="×"),
    Target("through the gateway, unloaded: added to p50", 1, added_p50_ms, at_most=True, unit="ms"),
)


def table(measurements: Iterable[Measurement]) -> str:
    """A Markdown table with a row for each target."""
    medians = Medians(measurements)
    lines = ["## Targets", "", "| target | wanted | measured | |", "|---|---:|---:|---|"]
    lines += [f"| {' | '.join(target.row(medians))} |" for target in TARGETS]
    note = "Where the client ended a peer's search, the peer counts with what its whole core carries at the same cost."
    return "\n".join([*lines, "", note, ""])
