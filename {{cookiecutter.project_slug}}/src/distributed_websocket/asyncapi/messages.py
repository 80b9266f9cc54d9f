"""The messages of `wire/` as AsyncAPI describes them: message objects, and JSON schemas of their payloads."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from .. import wire

Json = dict[str, Any]

Models = tuple[type[wire.WireModel], ...]

REQUESTS: Final[Models] = tuple(wire.ANSWERS)
ANSWERS: Final[Models] = (*dict.fromkeys(wire.ANSWERS.values()), wire.Error)
EVENTS: Final[Models] = tuple(model for event in wire.EVENTS for model in event.messages)
MODELS: Final[Models] = tuple(dict.fromkeys(REQUESTS + ANSWERS + EVENTS))


class _SchemaGenerator(GenerateJsonSchema):
    """Pydantic's, without what says nothing: a title for every field, and null as the default of what may be absent."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        described = super().default_schema(schema)
        if described.get("default", ...) is None:
            del described["default"]
        return described


@cache
def schemas() -> Json:
    """All models as JSON schemas, by name; `type` is their first field and `ref` their last. Not to be changed."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in MODELS],
        ref_template="#/components/schemas/{model}",
        schema_generator=_SchemaGenerator,
    )
    described: Json = definitions["$defs"]
    order = {"type": 0, "ref": 2}
    for schema in described.values():
        if "properties" in schema:
            fields = sorted(schema["properties"].items(), key=lambda field: order.get(field[0], 1))
            schema["properties"] = dict(fields)
    return described


def messages() -> Json:
    """All messages, by the names of their models. What pairs answers with requests is the `ref` of both."""
    described: Json = {}
    for model in MODELS:
        message: Json = {"name": type_of(model), "title": name_of(model), "summary": summary_of(model)}
        if issubclass(model, (wire.Request, wire.Answer)):
            message["correlationId"] = {"location": "$message.payload#/ref"}
        message["payload"] = {"$ref": f"#/components/schemas/{name_of(model)}"}
        message["examples"] = [{"payload": example} for example in model.examples]
        described[name_of(model)] = message
    return described


def name_of(model: type[wire.WireModel]) -> str:
    return model.__name__


def type_of(model: type[wire.WireModel]) -> str:
    constant: str = schemas()[name_of(model)]["properties"]["type"]["const"]
    return constant


def summary_of(model: type[wire.WireModel]) -> str:
    return (model.__doc__ or "").partition("\n")[0]
