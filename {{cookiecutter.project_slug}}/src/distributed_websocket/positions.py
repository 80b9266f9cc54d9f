"""Positions in a log: `"ms-seq"`, the id of a Redis Stream entry. They order the entries of one shard."""

from __future__ import annotations


def parse_position(position: str) -> tuple[int, int]:
    """(milliseconds, sequence), which compare as the positions do. Raises `ValueError` for anything else."""
    ms, dash, seq = position.partition("-")
    if not (dash and ms.isascii() and ms.isdigit() and seq.isascii() and seq.isdigit() and len(position) <= 41):
        raise ValueError(f"a position is 'ms-seq', not {position[:50]!r}")
    return int(ms), int(seq)
