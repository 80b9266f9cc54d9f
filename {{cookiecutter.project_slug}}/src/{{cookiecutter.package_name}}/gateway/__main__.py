"""`python -m <package>.gateway` runs one gateway."""

from ..serve import serve
from ..settings import GatewaySettings, load
from .app import create_app


def main() -> None:
    settings = load(GatewaySettings)
    serve(create_app(settings), settings, "websockets-sansio")


if __name__ == "__main__":
    main()
