"""`python -m <package>.gateway` runs one gateway."""

from distributed_websocket.server import RawWebSocketProtocol
from distributed_websocket.tunnel import drain

from ..serve import serve
from ..settings import GatewaySettings, load
from .app import create_app


def main() -> None:
    settings = load(GatewaySettings)
    serve(create_app(settings), settings, RawWebSocketProtocol, before_stop=lambda: drain(settings.drain_seconds))


if __name__ == "__main__":
    main()
