"""The load test in several processes, of this machine or of several: Locust's master and workers.

`LOADTEST_PROCESSES=2 python -m loadtests` starts the workers too. Where they are started by something else, as in
containers, `python -m loadtests.distributed master` waits for as many, and `python -m loadtests.distributed worker
HOST:PORT` is one of them. In here they are called generators: workers are those of the chat.

share.py       which rooms and users each generator gets
generator.py   one generator: a load test of its share, in step with the others
master.py      says when the generators join, begin and end, and puts together what they found
spawning.py    generators as processes of this machine
"""
