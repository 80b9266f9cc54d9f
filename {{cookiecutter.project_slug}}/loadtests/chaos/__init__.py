"""The chaos run: the load test's ledger over a stack in which things break, one after the other, on purpose.

`python -m loadtests.chaos` strikes the stack that runs, processes or containers. It exits 0 (nothing lost, twice or out
of order, and every fault hit somebody), 1 (failed), 2 (could not run) or 130 (stopped by Ctrl-C, after undoing what was
still on).

settings.py    what is asked for
schedule.py    which fault strikes whom, in which order: decided by the seed
stack.py       what is struck, as the faults need it: local_stack.py (processes) and container_stack.py
detour.py      a way to Redis that can be blocked, for processes
faults.py      what each fault does, and how it is undone
witness.py     a client's session that writes down everything it hears
member.py      one client: the library's own, with a cookie
crowd.py       all of them, and who says what when
run.py         the conductor
report.py      a row for each fault, and the verdict
table.py       the report as text; page.py as a page
"""
