"""The chat service: `gateway` lets people in, `chat` carries their messages, `web` is the page."""
