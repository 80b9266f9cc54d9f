"""Locust's own web page over the load test's scenario, with a tab that says who reached whom.

`python -m loadtests.locust_ui` serves it on this machine alone, until Ctrl-C.

scenario.py    the broadcast scenario without an end: users come and go as the page says
tab.py         the tab
serve.py       the page
"""
