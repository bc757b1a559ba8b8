"""JSON schema -> the grammar of its answers, in xgrammar's EBNF.

Only for schemas that wire/json_schema.py has let through. xgrammar has a converter of its own, which is not used: in
version 0.1.31 it lets numbers beyond their bounds pass, writes names without escapes, and allows blanks without end,
which small models then write.
"""

from __future__ import annotations

import json
from typing import Any

from dashbelle.errors import SchemaRefused

Node = dict[str, Any]

_RULES = r"""
ws ::= " "? | "\n" [ ]{0,20}
more ::= ws "," ws
string ::= "\"" tail
tail ::= "\"" | char tail
char ::= [^\x00-\x1f\x7f"\\] | "\\" escape
escape ::= ["\\/bfnrt] | "u" ([0-9a-cefA-CEF] hex{3} | [dD] [0-7] hex{2} | pair)
pair ::= [dD] [89abAB] hex{2} "\\u" [dD] [c-fC-F] hex{2}
hex ::= [0-9a-fA-F]
natural ::= "0" | positive
positive ::= [1-9] [0-9]{0,15}
integer ::= "0" | "-"? positive
number ::= "-"? natural ("." [0-9]{1,15})? ([eE] [+-]? [0-9]{1,2})?
boolean ::= "true" | "false"
null ::= "null"
value ::= string | number | boolean | null | object | array
object ::= "{" ws ("}" | member (more member)* ws "}")
member ::= string ws ":" ws value
array ::= "[" ws ("]" | value (more value)* ws "]")
octet ::= "25" [0-5] | "2" [0-4] [0-9] | "1" [0-9] [0-9] | [1-9]? [0-9]
hour ::= [01] [0-9] | "2" [0-3]
sixty ::= [0-5] [0-9]
most ::= "0" [1-9] | "1" [0-9] | "2" [0-8]
long ::= ("0" [13578] | "1" [02]) "-" (most | "29" | "3" [01])
short ::= ("0" [469] | "11") "-" (most | "29" | "30") | "02-" most
date ::= [12] [0-9]{3} "-" (long | short)
time ::= hour ":" sixty ":" sixty ("." [0-9]{1,6})? ("Z" | [+-] hour ":" sixty)
label ::= [A-Za-z0-9]+ ("-" [A-Za-z0-9]+)*
word ::= [A-Za-z0-9_+-]+
"""
"""Strings are written out by recursion: repeated, they cost several times as much per token.

Blanks have an end; integers have 16 digits, since more are exact in no client that reads numbers as doubles; a grammar
knows no leap years, so February has 28 days.
"""
FORMATS = {
    "date": "date",
    "time": "time",
    "date-time": 'date "T" time',
    "email": 'word ("." word)* "@" label ("." label)+',
    "ipv4": 'octet "." octet "." octet "." octet',
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
}
"""What is kept to of `format`."""


def grammar_of(json_schema: str) -> str:
    """The grammar whose `root` is any answer to the schema. Raises SchemaRefused."""
    try:
        return _Writer(json.loads(json_schema)).text()
    except KeyError:  # a node without what each of its kind has, or a reference to nothing
        raise SchemaRefused from None


class _Writer:
    """Writes one grammar, a rule for each kind of node."""

    def __init__(self, schema: Node) -> None:
        self._named = schema.pop("$defs", {})
        self._schema = schema
        self._rules: list[str] = []
        self._known: dict[str, str] = {}

    def text(self) -> str:
        references = {name: f"def{number}" for number, name in enumerate(self._named)}
        self._references = {f"#/$defs/{name}": rule for name, rule in references.items()} | {"#": "root"}
        self._add("root", self._body(self._schema))
        for name, rule in references.items():
            self._add(rule, self._body(self._named[name]))
        return _RULES + "\n".join(self._rules) + "\n"

    def _rule(self, node: Node) -> str:
        """The name of the rule of `node`; equal nodes have one in common."""
        key = json.dumps(node)
        if key not in self._known:
            self._known[key] = name = f"node{len(self._known)}"
            self._add(name, self._body(node))
        return self._known[key]

    def _add(self, name: str, body: str) -> None:
        self._rules.append(f"{name} ::= {body}")

    def _body(self, node: Node) -> str:
        if "$ref" in node:
            return self._references[node["$ref"]]
        if "enum" in node:
            return " | ".join(_literal(value) for value in node["enum"])
        if "anyOf" in node:
            return " | ".join(self._rule(option) for option in node["anyOf"])
        match node.get("type"):
            case "object":
                return self._object(node)
            case "array":
                return self._array(node)
            case "string":
                return _string(node)
            case "integer":
                return {None: "integer", 0: "natural", 1: "positive"}[node.get("minimum")]
            case "number" | "boolean" | "null":
                return str(node["type"])
        if node:
            raise SchemaRefused
        return "value"

    def _object(self, node: Node) -> str:
        """Properties in their order, without some of those that are not required; or any names, if none are given."""
        properties, required = node.get("properties", {}), set(node.get("required", ()))
        rest, begins = 'ws "}"', ['"}"']
        if node["additionalProperties"] is not False:
            member = f'string ws ":" ws {self._rule(node["additionalProperties"])}'
            begins.append(f"{member} (more {member})* {rest}")
        for name, schema in reversed(properties.items()):
            member, after = f'{_literal(name)} ws ":" ws {self._rule(schema)}', self._named_part(rest)
            begins = [f"{member} {after}", *([] if name in required else begins)]
            rest = f"more {member} {after}" if name in required else f"(more {member})? {after}"
        return f'"{{" ws ({" | ".join(begins)})'

    def _array(self, node: Node) -> str:
        """The items of the prefix, as many as the bounds ask for, then others. Raises SchemaRefused."""
        prefix = [self._rule(schema) for schema in node.get("prefixItems", ())]
        least, most = node.get("minItems", 0), node.get("maxItems")
        others = None if node["items"] is False else self._rule(node["items"])
        if (most is not None and least > most) or (others is None and least > len(prefix)):
            raise SchemaRefused
        if others is None or (most is not None and most <= len(prefix)):
            prefix, rest = prefix[:most], ""
        elif prefix:
            rest = f"(more {others}){_times(least - len(prefix), most, len(prefix))}"
        else:
            prefix, rest = [others], f"(more {others}){_times(least - 1, most, 1)}"
        for place in reversed(range(len(prefix))):
            part = f"{'more ' if place else ''}{prefix[place]} {rest}"
            rest = self._named_part(part if place < least else f"({part})?")
        return f'"[" ws {rest} ws "]"'

    def _named_part(self, body: str) -> str:
        """The name of a rule for a part: written out, the parts of parts would grow with their square."""
        name = f"part{len(self._rules)}"
        self._add(name, body)
        return name


def _times(least: int, most: int | None, done: int) -> str:
    return f"{{{max(least, 0)},{'' if most is None else most - done}}}"


def _string(node: Node) -> str:
    if "minLength" in node or "maxLength" in node:
        return f'"\\"" char{_times(node.get("minLength", 0), node.get("maxLength"), 0)} "\\""'
    form = FORMATS.get(node.get("format", ""))
    return f'"\\"" {form} "\\""' if form else "string"


def _literal(value: object) -> str:
    """`value` as compact JSON, as a terminal."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
