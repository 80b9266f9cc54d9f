"""The protocol as an AsyncAPI 3.0 document, and as a page for people.

messages.py   the messages and their JSON schemas, from the models in `wire/`
document.py   the document: servers, channels, operations
page.py       the document as HTML; its style is in page.css
routes.py     where all that is served
"""

from .document import asyncapi_document
from .routes import add_asyncapi

__all__ = ["add_asyncapi", "asyncapi_document"]
