"""An AsyncAPI document as a page: plain HTML without scripts, styled by page.css alone, every text escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, NamedTuple

from .messages import Json


def render_page(document: Json) -> str:
    """The whole page. Links are relative: it works below any path."""
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    messages = document["components"]["messages"]
    groups = _messages_by_group(document)
    navigation = "".join(
        f"<h2>{escape(group)}</h2><ul>"
        + "".join(f'<li><a href="#{name}">{escape(messages[name]["name"])}</a></li>' for name in names)
        + "</ul>"
        for group, names in groups.items()
    )
    articles = "".join(
        f"<h2>{escape(group)}</h2>" + "".join(_article(name, document) for name in names)
        for group, names in groups.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}: messages</title>
<link rel="stylesheet" href="asyncapi.css">
</head>
<body>
<nav aria-label="Messages">{navigation}</nav>
<main>
<h1>{title}</h1>
<p>{_prose(info.get("description", ""))}</p>
<p>AsyncAPI {escape(document["asyncapi"])}: <a href="asyncapi.json">JSON</a>, <a href="asyncapi.yaml">YAML</a></p>
<h2>Connection</h2>
{_connection(document)}
<h2>Operations</h2>
{_operations(document)}
{articles}
<h2>Close codes</h2>
{_close_codes(document)}
</main>
</body>
</html>
"""


def _messages_by_group(document: Json) -> dict[str, list[str]]:
    """The title of each channel, and the messages that are in no channel before it."""
    groups: dict[str, list[str]] = {}
    shown: set[str] = set()
    for channel in document["channels"].values():
        names = [name for name in channel["messages"] if name not in shown]
        if names:
            groups[channel["title"]] = names
            shown.update(names)
    return groups


# How to connect


def _connection(document: Json) -> str:
    addresses = dict.fromkeys(channel["address"] for channel in document["channels"].values())
    urls = [
        f"{server['protocol']}://{server['host']}{server.get('pathname', '')}{address}"
        for server in document["servers"].values()
        for address in addresses
    ]
    schemes = document["components"]["securitySchemes"]
    return (
        _list(f"<code>{escape(url)}</code>" for url in urls)
        + ("<p>With a token, in one of these ways:</p>" if schemes else "")
        + _list(f"{escape(name)}: {_prose(scheme['description'])}" for name, scheme in schemes.items())
    )


def _close_codes(document: Json) -> str:
    codes = {
        code["code"]: code for channel in document["channels"].values() for code in channel.get("x-close-codes", ())
    }
    return _table(
        ("code", "reason", "come back?"),
        (
            (f"<code>{code['code']}</code>", escape(code["reason"]), "yes" if code["reconnect"] else "no")
            for code in codes.values()
        ),
    )


# Operations


def _operations(document: Json) -> str:
    return _table(
        ("operation", "address", "message", "answer", "what for"),
        (_operation(name, operation, document) for name, operation in document["operations"].items()),
    )


def _operation(name: str, operation: Json, document: Json) -> tuple[str, ...]:
    """Seen from the reader, who writes a client: what the server receives goes to it."""
    arrow = "→&nbsp;server" if operation["action"] == "receive" else "→&nbsp;client"
    address = document["channels"][_last(operation["channel"])]["address"]
    return (
        f"<code>{escape(name)}</code>",
        f"<code>{escape(address)}</code>&nbsp;{arrow}",
        _links(operation["messages"], document),
        _links(operation.get("reply", {}).get("messages", ()), document),
        _prose(operation["summary"]),
    )


def _links(references: Iterable[Json], document: Json) -> str:
    return "<br>".join(_link(_last(reference), document) for reference in references)


def _link(name: str, document: Json) -> str:
    return f'<a href="#{name}">{escape(document["components"]["messages"][name]["name"])}</a>'


# Messages


def _article(name: str, document: Json) -> str:
    message = document["components"]["messages"][name]
    schema = document["components"]["schemas"][_last(message["payload"])]
    examples = "".join(
        f"<pre><code>{escape(json.dumps(example['payload'], ensure_ascii=False))}</code></pre>"
        for example in message["examples"]
    )
    fields = _table(
        ("field", "type", "limits", "meaning"),
        (
            (
                f"<code>{escape(field.name)}</code>" + ("" if field.required else " <small>optional</small>"),
                field.kind,
                field.limits,
                _prose(field.description),
            )
            for field in _fields(schema, document)
            if field.kind != "null"
        ),
    )
    return (
        f'<article id="{name}"><h3>{escape(message["name"])}</h3>'
        f"<p>{_prose(schema['description'])}</p>{fields}"
        f"<p>{_others(schema)}</p>{examples}</article>"
    )


def _others(schema: Json) -> str:
    """What else a message may hold, and what it must not."""
    others: dict[object, str] = {True: "Other fields travel too.", False: "There are no other fields."}
    text = others.get(schema.get("additionalProperties"), "Other fields are passed over.")
    refused = [name for name, field in schema["properties"].items() if field.get("type") == "null"]
    return text + (f" Never: {', '.join(f'<code>{escape(name)}</code>' for name in refused)}." if refused else "")


class _Field(NamedTuple):
    """A row of a message's table; `kind` and `limits` are HTML."""

    name: str
    required: bool
    kind: str
    limits: str
    description: str


def _fields(schema: Json, document: Json, prefix: str = "") -> Iterator[_Field]:
    """The fields of an object, those of an object in it right behind it."""
    for name, field in schema["properties"].items():
        value = _value(field, document)
        limits = [*value.limits, *([f"default {escape(json.dumps(field['default']))}"] if "default" in field else [])]
        yield _Field(
            prefix + name,
            name in schema.get("required", ()),
            value.kind,
            "<br>".join(limits),
            field.get("description", ""),
        )
        for suffix, inner in value.objects:
            yield from _fields(inner, document, f"{prefix}{name}{suffix}.")


class _Value(NamedTuple):
    """What a field holds: `kind` and `limits` are HTML, `objects` the objects in it and where they are (`[]`)."""

    kind: str
    limits: list[str]
    objects: list[tuple[str, Json]]


def _value(schema: Json, document: Json) -> _Value:
    """Follows references; a message in a message is a link, so that it is described once."""
    if "$ref" in schema:
        name = _last(schema)
        if name in document["components"]["messages"]:
            return _Value(_link(name, document), [], [])
        return _value(document["components"]["schemas"][name], document)
    if "anyOf" in schema:
        values = [_value(alternative, document) for alternative in schema["anyOf"]]
        return _Value(
            " or ".join(value.kind for value in values),
            [limit for value in values for limit in value.limits],
            [found for value in values for found in value.objects],
        )
    if "items" in schema:
        items = _value(schema["items"], document)
        return _Value(
            f"array of {items.kind}",
            [*_limits(schema), *items.limits],
            [(f"[]{suffix}", found) for suffix, found in items.objects],
        )
    return _Value(
        escape(schema.get("type", "any")), list(_limits(schema)), [("", schema)] if "properties" in schema else []
    )


def _limits(schema: Json) -> Iterator[str]:
    if "const" in schema:
        yield f"<code>{escape(json.dumps(schema['const']))}</code>"
    for value in schema.get("enum", ()):
        yield f"<code>{escape(value)}</code>"
    for least, most, unit in (
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minimum", "maximum", ""),
    ):
        if least in schema and most in schema:
            yield f"{schema[least]} to {schema[most]}{unit}"
        elif least in schema:
            yield f"at least {schema[least]}{unit}"
        elif most in schema:
            yield f"at most {schema[most]}{unit}"
    if "pattern" in schema:
        yield f"<code>{escape(schema['pattern'])}</code>"


# HTML


def _last(reference: Json) -> str:
    """The name that a reference ends with."""
    return str(reference["$ref"]).rpartition("/")[2]


def _prose(text: str) -> str:
    """Text with `code` in it, and paragraphs."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return marked.replace("\n\n", "<br>")


def _list(items: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table of HTML cells; wider than the page, it scrolls by itself."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
