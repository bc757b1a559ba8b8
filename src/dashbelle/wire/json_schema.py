"""A caller's JSON schema -> the part of JSON Schema that answers can be held to; anything else is refused by name.

An engine compiles a schema into a grammar, and ignores what a grammar cannot say. An answer would then break the schema
without a word, so nothing passes here that is not kept to. The bounds are those within which compiling takes well under
a second, whatever the schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from dashbelle.wire.schema_values import (
    KEYWORDS,
    MAX_INTEGER,
    TYPES,
    Node,
    allow,
    read_count,
    read_integer,
    read_string,
    read_types,
    refused,
)

ANY_OBJECT = '{"type":"object","additionalProperties":{}}'
"""What `json_object` asks for."""
MAX_BYTES = 16 * 1024
MAX_DEPTH = 16
MAX_COST = 4000
"""Measured with OpenVINO GenAI 2026.4, a unit takes 0.1 ms at most; each item within an array's bounds costs one."""
_NODE_COST, _OPTIONAL_COST, _VALUES_PER_COST = 3, 15, 4
"""Of any schema; more for a property that is not required; how many integers or characters within bounds cost one."""

_ANNOTATIONS = frozenset(
    {
        *("$comment", "$id", "$schema", "default", "deprecated", "description", "discriminator"),
        *("example", "examples", "readOnly", "title", "writeOnly"),
    }
)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LOCAL = re.compile(r"#/(?:\$defs|definitions)/([^/]+)")


def bounded_schema(schema: object) -> str:
    """`schema` as JSON, without what says nothing about an answer. Raises InvalidParameter."""
    if not isinstance(schema, dict):
        raise refused("#", "must be an object")
    text = msgspec.json.encode(_Reader(schema).root()).decode()
    if len(text.encode()) > MAX_BYTES:
        raise refused("#", f"has more than {MAX_BYTES} bytes")
    return text


class _Reader:
    """Walks one schema."""

    def __init__(self, schema: Node) -> None:
        self._schema = dict(schema)
        named = [*_entries(self._schema.pop("$defs", {})), *_entries(self._schema.pop("definitions", {}))]
        self._named = dict(named)
        self._cost = 0

    def root(self) -> Node:
        root = self._node(self._schema, "#", 1)
        named = {name: self._node(schema, f"#/$defs/{name}", 1) for name, schema in self._named.items()}
        _check_progress({"#": root, **{f"#/$defs/{name}": node for name, node in named.items()}})
        return {**({"$defs": named} if named else {}), **root}

    def _node(self, schema: object, place: str, depth: int) -> Node:
        self._spend(_NODE_COST, place)
        if depth > MAX_DEPTH:
            raise refused(place, f"is nested deeper than {MAX_DEPTH} levels")
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            raise refused(place, "must be an object")
        rules = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
        if not rules:
            return {}
        for key, read in self._combinations().items():
            if key in rules:
                return read(rules, place, depth)
        return self._typed(rules, place, depth)

    def _spend(self, cost: int, place: str) -> None:
        self._cost += cost
        if self._cost > MAX_COST:
            raise refused(place, "makes the schema too complex")

    def _combinations(self) -> dict[str, Callable[[Node, str, int], Node]]:
        """What may stand without a type, in the order of precedence."""
        return {
            "$ref": self._reference,
            "const": self._constant,
            "enum": self._constant,
            "anyOf": self._choice,
            "oneOf": self._choice,
            "allOf": self._choice,
        }

    def _reference(self, rules: Node, place: str, _depth: int) -> Node:
        allow(rules, {"$ref"}, place)
        target = rules["$ref"]
        name = _LOCAL.fullmatch(target) if isinstance(target, str) else None
        if target != "#" and (name is None or name[1] not in self._named):
            raise refused(place, 'has a "$ref" to something else than "#" or an entry of its own "$defs"')
        return {"$ref": f"#/$defs/{name[1]}" if name else "#"}

    def _constant(self, rules: Node, place: str, _depth: int) -> Node:
        allow(rules, {"const", "enum", "type"}, place)
        values = [rules["const"]] if "const" in rules else rules["enum"]
        if not isinstance(values, list) or not values or ("const" in rules and "enum" in rules):
            raise refused(place, 'must have a list that is not empty as its "enum", and no "const" beside it')
        types = read_types(rules, place) if "type" in rules else list(TYPES)
        if not all(any(TYPES[kind](value) for kind in types) for value in values):
            raise refused(place, 'has a value that is not of its "type"')
        if any(type(value) is int and abs(value) > MAX_INTEGER for value in values):
            raise refused(place, f"has a number beyond {MAX_INTEGER}")
        return {"enum": values}

    def _choice(self, rules: Node, place: str, depth: int) -> Node:
        key = next(key for key in ("anyOf", "oneOf", "allOf") if key in rules)
        allow(rules, {key}, place)
        options = rules[key]
        if not isinstance(options, list) or not options:
            raise refused(place, f'must have a list that is not empty as its "{key}"')
        if key == "allOf" and len(options) > 1:
            raise refused(place, 'has an "allOf" of more than one schema')
        nodes = [self._node(option, f"{place}/{key}/{number}", depth + 1) for number, option in enumerate(options)]
        return nodes[0] if len(nodes) == 1 else {"anyOf": nodes}

    def _typed(self, rules: Node, place: str, depth: int) -> Node:
        allow(rules, set().union(*KEYWORDS.values()) | {"type"}, place)
        kinds = read_types(rules, place)
        if len(kinds) == 1:
            return self._of_kind(kinds[0], rules, place, depth)
        known = set().union(*(KEYWORDS[kind] for kind in kinds))
        allow(rules, known | {"type"}, place)
        options = [{key: rules[key] for key in rules if key in KEYWORDS[kind]} for kind in kinds]
        return {"anyOf": [self._of_kind(kind, own, place, depth) for kind, own in zip(kinds, options, strict=True)]}

    def _of_kind(self, kind: str, rules: Node, place: str, depth: int) -> Node:
        allow(rules, KEYWORDS[kind] | {"type"}, place)
        match kind:
            case "object":
                return self._object(rules, place, depth)
            case "array":
                return self._array(rules, place, depth)
            case "string":
                node = read_string(rules, place)
                self._spend(max(node.get("minLength", 0), node.get("maxLength", 0)) // _VALUES_PER_COST, place)
                return node
            case "integer":
                node = read_integer(rules, place)
                self._spend(len(node.get("enum", ())) // _VALUES_PER_COST, place)
                return node
        return {"type": kind}

    def _object(self, rules: Node, place: str, depth: int) -> Node:
        properties = rules.get("properties", {})
        required = rules.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise refused(place, 'must have an object as its "properties" and a list as its "required"')
        if not all(isinstance(name, str) and name in properties for name in required):
            raise refused(place, 'requires what is not among its "properties"')
        self._spend(_OPTIONAL_COST * (len(properties) - len(set(required))), place)
        others = rules.get("additionalProperties", not properties)
        if others is not False:
            others = self._node(others, f"{place}/additionalProperties", depth + 1)
        if not properties:
            return {"type": "object", "additionalProperties": others}
        nodes = {
            name: self._node(schema, f"{place}/properties/{name}", depth + 1) for name, schema in properties.items()
        }
        # Others may be left out, and must be: a name given twice would get past the rule of its property.
        required = list(dict.fromkeys(required))
        return {"type": "object", "properties": nodes, "required": required, "additionalProperties": False}

    def _array(self, rules: Node, place: str, depth: int) -> Node:
        prefix = rules.get("prefixItems", [])
        if not isinstance(prefix, list):
            raise refused(place, 'must have a list as its "prefixItems"')
        node: Node = {"type": "array"}
        if prefix:
            node["prefixItems"] = [
                self._node(schema, f"{place}/prefixItems/{number}", depth + 1) for number, schema in enumerate(prefix)
            ]
        items = rules.get("items", not prefix)
        node["items"] = False if items is False else self._node(items, f"{place}/items", depth + 1)
        bounds = {key: read_count(rules, key, place) for key in ("minItems", "maxItems") if key in rules}
        self._spend(max(bounds.values(), default=0), place)
        return node | bounds


def _entries(definitions: object) -> list[tuple[str, object]]:
    if not isinstance(definitions, dict) or not all(_NAME.fullmatch(name) for name in definitions):
        raise refused("#", f'must have "$defs" with names of the form {_NAME.pattern}')
    return list(definitions.items())


def _check_progress(named: dict[str, Node]) -> None:
    """Refuse a schema that leads back to itself before any character of an answer is written."""
    begun: set[str] = set()
    done: set[str] = set()

    def visit(name: str) -> None:
        if name in begun - done:
            raise refused(name, "refers to itself")
        begun.add(name)
        for target in _begins_with(named[name]) - done:
            visit(target)
        done.add(name)

    for name in named:
        visit(name)


def _begins_with(node: Node) -> set[str]:
    """The named schemas that an answer to `node` may begin with."""
    own = {node["$ref"]} if "$ref" in node else set()
    return own.union(*map(_begins_with, node.get("anyOf", ())))
