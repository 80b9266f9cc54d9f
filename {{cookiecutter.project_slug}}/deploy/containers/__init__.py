"""The whole stack in containers of one machine, from compose.yaml: `python -m deploy.containers up`.

What compose.yaml needs besides is written to `var/containers/`.
"""
