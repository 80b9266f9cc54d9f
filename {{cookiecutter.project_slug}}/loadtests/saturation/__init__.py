"""Where is the knee? The message rate is stepped up until p99 passes its limit or the delivery breaks.

`python -m loadtests.saturation` loads the stack and exits 0 (the knee is found, or there was none up to the last step),
1 (not even the first step held), 2 (could not run), 3 (the load generator gave up before the service did) or 130
(stopped by Ctrl-C: what was measured so far is shown).

settings.py    what is asked for
staircase.py   the broadcast scenario, at a rate that rises
run.py         the conductor
knee.py        did a step hold, and where did it end: pure
report.py      the schema of the file
table.py       a row for each step; page.py the plot
"""
