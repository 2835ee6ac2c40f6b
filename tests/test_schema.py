"""The JSON Schema for editors and the decoder: what one refuses the other refuses, at the same key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema.validators import validator_for
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from abmail._fields import Kind, Location, read_part
from abmail._values import BadValue
from abmail.errors import ExpressionError
from abmail.spec import Experiment, _conflicts, decode, json_schema, starter

ROOT = Path(__file__).parent.parent
SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# What the decoder refuses and no schema can: values that have to fit each other, lists of the outside world, grammars.
INEXPRESSIBLE = {
    ("AB102", ""): "a key that stands twice is gone when the schema sees the file",
    ("AB103", "allocation.weights"): "names of cells come from the factors",
    ("AB103", "control"): "a factor that is not defined",
    ("AB105", "allocation.weights"): "each cell needs its weight",
    ("AB105", "control"): "each factor needs its level",
    ("AB107", "control"): "a level that is not defined",
    ("AB107", "factors"): "the number of cells that the levels combine to",
    ("AB107", "allocation.weights"): "a sum",
    ("AB107", "allocation.min_weight"): "a floor for so many cells",
    ("AB107", "analysis.baseline"): "a sum with the mde",
    ("AB107", "analysis.mde"): ".nan is no JSON; where it comes in, it passes any bound",
    ("AB107", "send_time.zone"): "the list of time zones",
    ("AB107", "send_time.default_zone"): "the list of time zones",
    ("AB108", "audience.segment"): "the grammar of segments",
}


def plain(text: str) -> Any:
    """A file as an editor reads it, through another YAML reader than ours."""
    return json.loads(json.dumps(YAML(typ="safe", pure=True).load(text), default=str))


def texts() -> Iterator[tuple[str, str]]:
    for folder in ("experiments", "tests/cases"):
        for path in sorted((ROOT / folder).rglob("*.yaml")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        yield from ((f"{page.name} {number}", block) for number, block in enumerate(blocks))
    yield from ((f"abmail new --kind {kind}", starter("x", kind)) for kind in ("subject", "cta", "factorial"))


TEXTS = dict(texts())


def along(one: Location, other: Location) -> bool:
    return one[: len(other)] == other or other[: len(one)] == one


def code_of(problem: BadValue | ExpressionError) -> str:
    codes = {"UnknownKey": "AB103", "MissingKey": "AB105", "WrongType": "AB106", "ExpressionError": "AB108"}
    return codes.get(type(problem).__name__, "AB107")


@pytest.mark.parametrize("name", TEXTS)
def test_schema_and_decoder_refuse_the_same_keys(name: str) -> None:
    try:
        data = plain(TEXTS[name])
    except YAMLError:
        assert {finding.code for finding in decode(TEXTS[name], name)[1]} & {"AB101", "AB102"}
        return
    _, refusals = read_part(Experiment, data, _conflicts)
    at = [tuple(error.absolute_path) for error in VALIDATOR.iter_errors(data)]
    for place in at:
        assert any(along(tuple(location), place) for location, _ in refusals), f"only the schema refuses {place}"
    for location, problem in refusals:
        if not any(along(tuple(location), place) for place in at):
            key = (code_of(problem), ".".join(map(str, location[:2])) if location[0] != "control" else "control")
            assert key in INEXPRESSIBLE, f"only the decoder refuses {location}: {problem}"


def test_every_difference_that_is_listed_is_one_and_is_in_some_case() -> None:
    seen = set()
    for text in TEXTS.values():
        try:
            data = plain(text)
        except YAMLError:
            seen.add(("AB102", ""))
            continue
        at = [tuple(error.absolute_path) for error in VALIDATOR.iter_errors(data)]
        for location, problem in read_part(Experiment, data, _conflicts)[1]:
            if not any(along(tuple(location), place) for place in at):
                place = "control" if location[0] == "control" else ".".join(map(str, location[:2]))
                seen.add((code_of(problem), place))
    assert seen == set(INEXPRESSIBLE)


def kinds_of(part: Any) -> Iterator[Kind[Any]]:
    for hint in get_type_hints(part, include_extras=True).values():
        inner = next((arg for arg in get_args(hint) if arg is not type(None) and type(None) in get_args(hint)), hint)
        yield from (extra for extra in getattr(inner, "__metadata__", ()) if isinstance(extra, Kind))


PARTS = [hint for hint in get_type_hints(Experiment).values() if isinstance(hint, type) and hasattr(hint, "__slots__")]
KINDS = list(dict.fromkeys(kind for part in (Experiment, *PARTS) for kind in kinds_of(part)))
PIECES = [
    *"0123456789:.-– %％wdhms@<>/\\~\n\t", "00", "12", "24:00", "08:00", "1d", "100", "0.5", "a@b.c", "Name ", "..",
    "mails/", "x.html", "2026-12-29", "12:30", "T", "JP", "UTC", "Asia/Tokyo", "mon", "件名", "\x07", "\u00a0",
]  # fmt: skip
words = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
values = st.one_of(words, st.integers(-3, 2000), st.floats(-1, 2, allow_nan=False), st.booleans(), st.none())


@settings(max_examples=400, deadline=None)
@given(st.one_of(values, st.lists(words, max_size=3), st.dictionaries(words, values, min_size=1, max_size=2)))
@example("100.0 %")
@example(" 5 ％ ")
@example(["00121212"])
@example("2026-12-04T12")
@example("a@b <c@d.e>")
def test_the_schema_takes_every_value_that_the_decoder_takes(value: Any) -> None:
    for kind in KINDS:
        try:
            kind.read(value)
        except (ValueError, ExpressionError):
            continue
        assert jsonschema.Draft202012Validator(kind.schema).is_valid(value), (value, kind.schema)


def test_the_schema_obeys_the_meta_schema_of_its_draft() -> None:
    assert validator_for(SCHEMA) is jsonschema.Draft202012Validator
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def leaves(schema: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, entry in schema.get("properties", {}).items():
        yield above + name, entry
        yield from leaves(entry, f"{above}{name}.")


@pytest.mark.parametrize(("name", "entry"), list(leaves(SCHEMA)), ids=lambda value: value if type(value) is str else "")
def test_each_key_says_what_it_is_and_shows_a_value(name: str, entry: dict[str, Any]) -> None:
    assert entry["description"].endswith("."), name
    shown = [entry, *entry.get("anyOf", ())]
    told = {"examples", "enum", "const", "properties", "default", "additionalProperties"}
    in_words = any(one.get("type") == "boolean" for one in shown) or name.startswith("control.")
    assert in_words or any(told & set(one) for one in shown), f"{name} has neither values to choose from nor an example"


def test_examples_and_defaults_are_values_that_pass() -> None:
    for name, entry in leaves(SCHEMA):
        validator = jsonschema.Draft202012Validator(entry)
        for one in (entry, *entry.get("anyOf", ())):
            for value in (*one.get("examples", ()), *([one["default"]] if "default" in one else ())):
                assert validator.is_valid(value), (name, value)


def test_patterns_mean_the_same_in_javascript_where_backslash_w_is_ascii() -> None:
    assert r"\\w" not in json.dumps(SCHEMA)
    text = (ROOT / "experiments" / "03-nihongo.yaml").read_text(encoding="utf-8")
    assert VALIDATOR.is_valid(plain(text))


def test_the_design_of_every_part_is_in_the_schema() -> None:
    keys = {field.name for field in fields(Experiment) if field.init}
    assert set(SCHEMA["properties"]) == keys
