"""How the service is run: `local/` without containers, the files of Traefik and Redis for both ways."""
