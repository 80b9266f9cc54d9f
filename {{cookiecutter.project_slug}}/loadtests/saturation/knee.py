"""Did a step hold, and where is the knee? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from ..verdict import Generator, overload_reasons
from .report import Knee, Step


class StepOutcome(StrEnum):
    HELD = "held"
    SLOW = "slow"
    BROKEN = "broken"
    GENERATOR = "generator"
    """The load generator gave up, not the service."""


EXIT_CODES = {"knee": 0, "no knee": 0, "failed": 1, "invalid": 3, "interrupted": 130}


def judge_step(step: Step, p99_ms: float) -> tuple[StepOutcome, str]:
    """The outcome and why, in the order of what weighs most: the delivery, the generator, the speed."""
    broken = [
        f"{count:,} {what}"
        for count, what in (
            (step["expected"] - step["delivered"], "deliveries missing"),
            (step["duplicates"], "delivered twice"),
            (step["out_of_order"], "out of order"),
            (step["otherwise_wrong"], "wrong in another way"),
            (step["sent"] - step["acknowledged"], "messages never acknowledged"),
            (step["disturbances"], "connections lost, handshakes that failed or errors"),
            (step["unrecovered"], "clients told of a hole (`recovered: false`)"),
        )
        if count
    ]
    if not step["expected"]:
        broken.append("nothing was delivered")
    if broken:
        return StepOutcome.BROKEN, ", ".join(broken)
    generator = Generator(cpu=step["generator_cpu"], lag_p99_ms=step["generator_lag_p99_ms"], overdue=step["overdue"])
    if reasons := overload_reasons(generator, p99_ms):
        return StepOutcome.GENERATOR, "; ".join(reasons)
    p99 = step["latency"]["p99"]
    if p99 is not None and p99 > p99_ms:
        return StepOutcome.SLOW, f"p99 is {p99:,.1f} ms (at most {p99_ms:,.0f} ms)"
    return StepOutcome.HELD, ""


def find_knee(steps: Sequence[Step], *, interrupted: bool = False) -> Knee:
    """Between the last step that held and the first one that did not. Steps are in the order of their rates."""
    held = None
    for step in steps:
        if step["outcome"] != StepOutcome.HELD:
            return _ended(held, step)
        held = step["rate"]
    if held is None:
        return Knee(outcome="interrupted", sentence="No step was finished.", held_rate=None, broke_rate=None)
    sentence = f"Everything held at each step, up to {held:,.0f} messages per second."
    if interrupted:
        return Knee(outcome="interrupted", sentence=f"Stopped. {sentence}", held_rate=held, broke_rate=None)
    return Knee(outcome="no knee", sentence=f"{sentence} The knee is above that.", held_rate=held, broke_rate=None)


def _ended(held: float | None, step: Step) -> Knee:
    rate, reason = step["rate"], step["reason"]
    if step["outcome"] == StepOutcome.GENERATOR:
        until = "" if held is None else f" The service held up to {held:,.0f}; its knee is above that."
        outcome, sentence = (
            "invalid",
            f"At {rate:,.0f} messages per second {reason}.{until}",
        )
    elif held is None:
        outcome, sentence = "failed", f"Not even {rate:,.0f} messages per second held: {reason}."
    else:
        outcome = "knee"
        sentence = f"Everything held at {held:,.0f} messages per second; at {rate:,.0f}: {reason}."
    return Knee(outcome=outcome, sentence=sentence, held_rate=held, broke_rate=rate)
