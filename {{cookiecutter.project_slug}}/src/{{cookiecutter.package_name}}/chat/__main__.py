"""`python -m <package>.chat` runs one chat worker."""

from distributed_websocket import WebSocketManager
from distributed_websocket.server import RawWebSocketProtocol

from ..serve import serve
from ..settings import ChatSettings, load
from .app import create_app


def main() -> None:
    settings = load(ChatSettings)
    app = create_app(settings)
    manager: WebSocketManager = app.state.manager
    serve(app, settings, RawWebSocketProtocol, before_stop=lambda: manager.drain(settings.drain_seconds))


if __name__ == "__main__":
    main()
