"""`distributed_websocket.asyncapi`: the rules of AsyncAPI 3 that are easily broken, the page, and what is served."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import yaml
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.routing import WebSocketRoute

from distributed_websocket import CloseCode, WebSocketOAuth2PasswordBearer, wire
from distributed_websocket.asyncapi import add_asyncapi, asyncapi_document
from distributed_websocket.asyncapi.page import render_page

Json = dict[str, Any]

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>`</code>`"


async def endpoint(websocket: WebSocket) -> None: ...


async def page() -> None: ...


def application(*paths: str, **options: Any) -> FastAPI:
    app = FastAPI(title="Chat", version="1.2.3", **options)
    app.add_api_route("/page", page)
    for path in paths:
        app.add_api_websocket_route(path, endpoint)
    return app


def document_of(app: FastAPI, *, server: str = "wss://chat.example.org", token: bool = True, **options: Any) -> Json:
    bearer = WebSocketOAuth2PasswordBearer("/api/token") if token else None
    arguments = {"title": "Chat", "version": "1.2.3", "servers": {"public": server}, "bearer": bearer, **options}
    return asyncapi_document(app.routes, **arguments)


@pytest.fixture(scope="module")
def document() -> Json:
    return document_of(application("/ws"))


def nodes(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value in a document, with its path."""
    yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from nodes(child, (*path, str(key)))


def follow(document: Json, reference: str) -> Any:
    """What a reference points to; `KeyError` where nothing is."""
    assert reference.startswith("#/")
    found: Any = document
    for key in reference[2:].split("/"):
        found = found[key]
    return found


# The rules that are easily broken


def test_the_version_and_the_default_content_type_are_named(document: Json) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert document["info"] == {"title": "Chat", "version": "1.2.3"}
    assert document["defaultContentType"] == "application/json"


def test_every_reference_leads_somewhere(document: Json) -> None:
    references = [value for path, value in nodes(document) if path[-1:] == ("$ref",)]
    assert len(references) > 50
    for reference in references:
        follow(document, reference)


def test_the_server_receives_what_clients_send(document: Json) -> None:
    """`action` is this application's view, not the reader's."""
    for operation in document["operations"].values():
        kinds = {follow(document, follow(document, one["$ref"])["$ref"])["name"] for one in operation["messages"]}
        if operation["action"] == "receive":
            assert operation["channel"] == {"$ref": "#/channels/ws_requests"}
            assert kinds <= {"subscribe", "unsubscribe", "send", "broadcast", "send_by_conn_id"} | {
                *("history", "presence", "authenticate")
            }
        else:
            assert operation["action"] == "send"
            assert operation["channel"] == {"$ref": "#/channels/ws_events"}
            assert "reply" not in operation


def test_operations_refer_to_the_messages_of_their_channel_and_not_to_components(document: Json) -> None:
    for operation in document["operations"].values():
        for part in (operation, operation.get("reply")):
            if part is not None:
                channel = part["channel"]["$ref"]
                assert part["messages"], "an empty list means none at all"
                for message in part["messages"]:
                    assert re.fullmatch(rf"{re.escape(channel)}/messages/\w+", message["$ref"])


def test_every_message_is_of_an_operation(document: Json) -> None:
    used = {
        message["$ref"].rpartition("/")[2]
        for operation in document["operations"].values()
        for part in (operation, operation.get("reply", {"messages": []}))
        for message in part["messages"]
    }
    assert used == set(document["components"]["messages"])


def test_every_request_may_be_answered_by_its_answer_or_an_error(document: Json) -> None:
    replies = {
        operation["messages"][0]["$ref"].rpartition("/")[2]: [
            message["$ref"].rpartition("/")[2] for message in operation["reply"]["messages"]
        ]
        for operation in document["operations"].values()
        if operation["action"] == "receive"
    }
    assert replies == {request.__name__: [answer.__name__, "Error"] for request, answer in wire.ANSWERS.items()}
    assert replies["Send"] == ["Ack", "Error"]


def test_requests_and_answers_are_paired_by_a_field_that_both_have(document: Json) -> None:
    paired = {name for name, message in document["components"]["messages"].items() if "correlationId" in message}
    assert {"Subscribe", "Subscribed", "Send", "Ack", "Error"} <= paired
    assert not paired & {"Welcome", "Delivered", "Reconnect"}
    for name in paired:
        message = document["components"]["messages"][name]
        assert message["correlationId"] == {"location": "$message.payload#/ref"}
        assert "ref" in follow(document, message["payload"]["$ref"])["properties"]


def test_the_types_of_a_channel_differ_so_that_a_message_is_one_and_only_one(document: Json) -> None:
    for channel in document["channels"].values():
        types = [follow(document, f"{message['$ref']}")["payload"]["$ref"] for message in channel["messages"].values()]
        constants = [follow(document, payload)["properties"]["type"]["const"] for payload in types]
        assert len(set(constants)) == len(constants)
        assert all("type" in follow(document, payload)["required"] for payload in types)


def test_the_channels_of_a_route_share_its_address(document: Json) -> None:
    """A WebSocket has only one channel: these are directions and purposes."""
    assert {key: channel["address"] for key, channel in document["channels"].items()} == {
        "ws_requests": "/ws",
        "ws_answers": "/ws",
        "ws_events": "/ws",
    }


def test_the_ws_binding_stands_at_channels_alone(document: Json) -> None:
    where = [path for path, _ in nodes(document) if path[-1:] == ("bindings",)]
    assert where == [("channels", key, "bindings") for key in document["channels"]]
    for channel in document["channels"].values():
        binding = channel["bindings"]["ws"]
        assert set(binding) <= {"method", "query", "headers", "bindingVersion"}
        assert binding["method"] == "GET"
        assert binding["bindingVersion"] == "0.1.0"
        assert binding["headers"]["type"] == "object"
        assert binding["headers"]["properties"]


def test_a_server_has_its_scheme_in_the_protocol_and_its_path_in_the_pathname() -> None:
    document = document_of(application("/ws"), server="wss://chat.example.org:8443/some/where/", token=False)
    assert document["servers"] == {
        "public": {"host": "chat.example.org:8443", "protocol": "wss", "pathname": "/some/where"}
    }


@pytest.mark.parametrize("url", ["chat.example.org", "https://chat.example.org", "wss://", "//chat.example.org", ""])
def test_a_server_that_is_no_websocket_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"not {url!r}")):
        document_of(application("/ws"), server=url)


def test_security_is_a_list_of_schemes_of_which_one_suffices(document: Json) -> None:
    """OpenAPI's map from scheme to scopes is not valid here."""
    security = document["servers"]["public"]["security"]
    assert [follow(document, scheme["$ref"])["type"] for scheme in security] == ["http", "httpApiKey", "httpApiKey"]
    schemes = document["components"]["securitySchemes"]
    assert schemes["cookie"] == {
        "type": "httpApiKey",
        "in": "cookie",
        "name": "access_token",
        "description": "The login cookie: for pages of the same site.",
    }
    assert not any(scheme.get("in") == "query" for scheme in schemes.values()), "a URL is in every log on its way"


def test_a_service_that_takes_no_cookie_and_one_that_takes_no_token_say_so() -> None:
    bearer = WebSocketOAuth2PasswordBearer("/api/token", cookie=None)
    document = document_of(application("/ws"), bearer=bearer)
    assert set(document["components"]["securitySchemes"]) == {"header", "subprotocol"}
    document = document_of(application("/ws"), token=False)
    assert document["components"]["securitySchemes"] == {}
    assert "security" not in document["servers"]["public"]


def test_the_close_codes_are_in_it(document: Json) -> None:
    codes = document["channels"]["ws_events"]["x-close-codes"]
    assert {code["code"] for code in codes} == set(CloseCode)
    assert {"code": 4001, "reason": "too slow, reconnect and resume", "reconnect": True} in codes


# Routes


def test_routes_of_included_routers_have_their_whole_path_and_its_parameters() -> None:
    app = application("/ws")
    router = APIRouter(prefix="/rooms")
    router.add_api_websocket_route("/{room:path}/of/{user}", endpoint)
    app.include_router(router, prefix="/v1")
    channel = document_of(app)["channels"]["v1_rooms_room_of_user_requests"]
    assert channel["address"] == "/v1/rooms/{room}/of/{user}"
    assert channel["parameters"] == {"room": {}, "user": {}}


def test_routes_with_similar_paths_get_different_channels_and_operations() -> None:
    app = application("/a/b", "/a-b", "/a_b", "/")
    app.routes.append(WebSocketRoute("/plain", endpoint))
    document = document_of(app)
    keys = {key.removesuffix("_requests") for key in document["channels"] if key.endswith("_requests")}
    assert keys == {"a_b", "a_b_2", "a_b_3", "root", "plain"}
    assert len(document["operations"]) == len(keys) * (len(wire.ANSWERS) + len(wire.EVENTS))


def test_who_changes_a_document_changes_no_other() -> None:
    before = json.dumps(document_of(application("/ws")))
    for _, value in list(nodes(document_of(application("/ws")))):
        if isinstance(value, dict):
            value.clear()
    assert json.dumps(document_of(application("/ws"))) == before


# What is served


def test_json_and_yaml_are_the_same_document() -> None:
    app = application("/ws", description="A chat")
    add_asyncapi(app, servers={"public": "wss://chat.example.org"}, bearer=WebSocketOAuth2PasswordBearer("/api/token"))
    client = TestClient(app)
    as_json, as_yaml = client.get("/asyncapi.json"), client.get("/asyncapi.yaml")
    assert as_json.headers["content-type"] == "application/json"
    assert as_yaml.headers["content-type"] == "application/yaml"
    assert as_json.json() == document_of(app, description="A chat")
    assert yaml.safe_load(as_yaml.text) == as_json.json()
    assert "&id0" not in as_yaml.text, "anchors are for programs"


def test_without_servers_it_names_the_one_that_was_asked() -> None:
    app = application("/ws")
    add_asyncapi(app)
    app.add_api_websocket_route("/later", endpoint)
    plain = TestClient(app, base_url="http://127.0.0.1:8000").get("/asyncapi.json").json()
    assert plain["servers"] == {"this": {"host": "127.0.0.1:8000", "protocol": "ws"}}
    assert "later_requests" in plain["channels"]
    below = TestClient(app, base_url="https://chat.example.org", root_path="/v1").get("/asyncapi.json").json()
    assert below["servers"] == {"this": {"host": "chat.example.org", "protocol": "wss", "pathname": "/v1"}}


@pytest.mark.parametrize("host", ["[", "a b", "x/y", "", "user:password@host", "<script>"])
def test_a_host_header_that_is_none_is_not_repeated(host: str) -> None:
    app = application("/ws")
    add_asyncapi(app)
    answer = TestClient(app).get("/asyncapi.json", headers={"Host": host})
    assert answer.status_code == 200
    assert answer.json()["servers"]["this"]["host"] == "testserver"


def test_the_documents_are_not_in_the_document_of_the_http_routes() -> None:
    app = application("/ws")
    add_asyncapi(app)
    assert set(app.openapi()["paths"]) == {"/page"}


# The page


class Page(HTMLParser):
    """What a page consists of; unbalanced tags fail."""

    VOID = frozenset(("meta", "link", "br", "img"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, attribute: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(attribute)) is not None]


def served_page(app: FastAPI) -> Page:
    add_asyncapi(app, bearer=WebSocketOAuth2PasswordBearer("/api/token"))
    return Page(TestClient(app).get("/asyncapi").text)


def test_the_page_lists_every_operation_message_and_code() -> None:
    app = application("/ws")
    page = served_page(app)
    document = document_of(app)
    assert set(document["operations"]) <= set(page.text)
    assert set(document["components"]["messages"]) == set(page.values("id"))
    text = " ".join(page.text)
    for code in CloseCode:
        assert f"{int(code)}" in page.text
    for word in ("invalid_topic", "since.position", "members[].user", "1 to 200", "at most 1000 items", "default 50"):
        assert word in text
    assert '{"type": "unsubscribe", "topic": "room/1", "ref": 4}' in text


def test_the_page_needs_no_script_no_network_and_nothing_inline() -> None:
    app = application("/ws")
    page = served_page(app)
    assert not {tag for tag, _ in page.tags} & {"script", "style", "iframe", "object", "form", "base", "img"}
    assert page.values("src") == []
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    own = {"asyncapi.css", "asyncapi.json", "asyncapi.yaml"}
    assert {link for link in page.values("href") if not link.startswith("#")} == own
    for link in own:
        assert TestClient(app).get(f"/{link}").status_code == 200


def test_the_policy_of_the_page_lets_nothing_else_run_even_if_something_got_in() -> None:
    app = application("/ws")
    add_asyncapi(app)
    answer = TestClient(app).get("/asyncapi")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    style = TestClient(app).get("/asyncapi.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "light-dark(" in style.text
    assert not re.search(r"url\(|@import|//", style.text)


def test_every_link_within_the_page_leads_somewhere_and_no_name_is_given_twice() -> None:
    app = application("/ws", "/other")
    page = served_page(app)
    names = page.values("id")
    assert len(set(names)) == len(names)
    assert {link[1:] for link in page.values("href") if link.startswith("#")} == set(names)


def test_what_the_page_shows_is_escaped() -> None:
    app = FastAPI(title=HOSTILE, version=HOSTILE, description=HOSTILE)
    app.add_api_websocket_route(f"/{HOSTILE}", endpoint)
    page = served_page(app)
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert "".join(page.text).count("<script>alert(1)</script>") >= 4


def test_an_escaped_schema_cannot_break_out_either() -> None:
    document = document_of(application("/ws"))
    document["components"]["schemas"]["Ack"]["properties"][HOSTILE] = {
        "type": HOSTILE,
        "description": HOSTILE,
        "pattern": HOSTILE,
        "default": HOSTILE,
        "enum": [HOSTILE],
        "const": HOSTILE,
    }
    message = document["components"]["messages"]["Ack"]
    message["name"] = HOSTILE
    message["examples"] = [{"payload": {HOSTILE: HOSTILE}}]
    document["components"]["securitySchemes"]["header"]["description"] = HOSTILE
    document["channels"]["ws_events"]["x-close-codes"][0]["reason"] = HOSTILE
    document["operations"]["ws_send"]["summary"] = HOSTILE
    page = Page(render_page(document))
    assert not {tag for tag, _ in page.tags} & {"script", "img"}


def test_an_app_without_websockets_has_a_page_too() -> None:
    app = application()
    add_asyncapi(app)
    page = Page(TestClient(app).get("/asyncapi").text)
    assert page.values("id") == []
    assert TestClient(app).get("/asyncapi.json").json()["channels"] == {}


@pytest.mark.parametrize(
    ("field", "limits"),
    [
        ({"type": "string", "minLength": 2}, "at least 2 characters"),
        ({"type": "string", "minLength": 2, "maxLength": 3}, "2 to 3 characters"),
        ({"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1}, "at least 1 items"),
        ({"type": "integer", "maximum": 3}, "at most 3"),
        ({"type": "boolean", "default": False}, "default false"),
    ],
)
def test_limits_are_said_in_words(field: Json, limits: str) -> None:
    document = document_of(application("/ws"))
    document["components"]["schemas"]["Ack"]["properties"]["more"] = field
    assert limits in "".join(Page(render_page(document)).text)
