"""The whole stack as plain processes of one machine: `python -m deploy.local up`.

supervisor keeps Redis, Traefik, the gateway and the chat workers alive; everything written at run time lies in `var/`.
"""
