"""What it costs to find a topic's subscribers, from 100 to 100,000 subscribed patterns: it should stay flat.

    PYTHONPATH=src python benchmarks/topic_index.py [--sizes 100 1000 ...] [--rounds 15] [--matches 5000]

Each mix subscribes one subscriber per pattern and looks up topics that have one to three subscribers. The rounds go
through all mixes and sizes in turn, so that a disturbance of the machine hits all of them; printed are the median and
the spread (quartiles) of the rounds, in nanoseconds per `TopicIndex.match`. The last column asks every pattern with
`matches`, as a loop over the connections would. What growth is left is the processor's cache: a larger dictionary does
not fit into it.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from distributed_websocket.topics import TopicIndex, matches

TOPICS = 500  # looked up in turn, so that one hot key does not flatter the result
ASKED = 2_000_000  # patterns that the loop for comparison asks, at most, per size

MIXES: dict[str, Callable[[int], str]] = {
    "exact": lambda number: f"room/{number}/chat",
    "plus": lambda number: f"room/{number}/+",
    "hash": lambda number: f"room/{number}/#",
    "plus first": lambda number: f"+/{number}/chat",
    "mixed": lambda number: (f"room/{number}/chat", f"room/{number}/+", f"room/{number}/#", f"+/{number}/chat")[
        number % 4
    ],
}


@dataclass
class Case:
    """One mix at one size, and the nanoseconds per match of each of its rounds."""

    index: TopicIndex[int]
    topics: list[str]
    rounds: list[float] = field(default_factory=list)


def build(mix: str, size: int) -> Case:
    index = TopicIndex[int]()
    for number in range(size):
        index.add(MIXES[mix](number), number)
    chosen = random.Random(size).choices(range(size), k=TOPICS)
    case = Case(index, [f"room/{number}/chat" for number in chosen])
    for topic, number in zip(case.topics, chosen, strict=True):
        if index.match(topic) != {number}:
            raise SystemExit(f"{mix}, {size} patterns: {topic} found {set(index.match(topic))}, not {number}")
    return case


def measure(case: Case, count: int) -> None:
    match, topics = case.index.match, case.topics
    started = time.perf_counter_ns()
    for _ in range(count // len(topics)):
        for topic in topics:
            match(topic)
    case.rounds.append((time.perf_counter_ns() - started) / (count // len(topics) * len(topics)))


def ask_everyone(mix: str, size: int) -> float:
    """Nanoseconds per topic when each pattern is asked."""
    patterns = [MIXES[mix](number) for number in range(size)]
    count = max(1, min(20, ASKED // size // 4))
    started = time.perf_counter_ns()
    for number in range(count):
        sum(matches(f"room/{number}/chat", pattern) for pattern in patterns)
    return (time.perf_counter_ns() - started) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--matches", type=int, default=5_000, help=f"per round, at least {TOPICS}")
    arguments = parser.parse_args()
    if arguments.rounds < 2 or arguments.matches < TOPICS or min(arguments.sizes) < 1:
        parser.error(f"--rounds takes at least 2, --matches at least {TOPICS}, --sizes at least 1")

    cases = {(mix, size): build(mix, size) for mix in MIXES for size in arguments.sizes}
    for _ in range(arguments.rounds):
        for case in cases.values():
            measure(case, arguments.matches)

    print(f"{'mix':<11}{'patterns':>9}{'ns/match':>10}{'quartiles':>14}{'x first':>9}{'ns, asking everyone':>21}")
    for mix in MIXES:
        first = statistics.median(cases[mix, arguments.sizes[0]].rounds)
        for size in arguments.sizes:
            low, median, high = statistics.quantiles(cases[mix, size].rounds, n=4, method="inclusive")
            found = f"{median:>10.0f}{f'{low:.0f}-{high:.0f}':>14}{median / first:>9.2f}"
            print(f"{mix:<11}{size:>9,}{found}{ask_everyone(mix, size):>21,.0f}")


if __name__ == "__main__":
    main()
