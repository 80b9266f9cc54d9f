"""Two load tests beside each other: `python -m loadtests.comparison A.json B.json`.

Exits 0, whatever the difference is, and 2 where a file is not a report of this version.
"""
