"""Load tests that count: every acknowledged message must reach everybody who subscribed, once, in order.

`python -m loadtests` runs one against the stack and exits 0 (passed), 1 (failed), 2 (could not run), 3 (invalid: the
generator itself was the bottleneck) or 130 (stopped by Ctrl-C). This package imports nothing here, so that its pure
modules (`ledger`, `histogram`, `verdict`, `report`) can be used without gevent patching the process.
"""
