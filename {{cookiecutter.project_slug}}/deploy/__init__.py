"""How the service is run: `python -m deploy up`, in containers where an engine answers, else as plain processes.

`local/` and `containers/` are the two ways; what lies beside them is common to both.
"""
