"""YAML is taken as it is written or refused with its line and key, in bounded time and memory."""

import os
import re
from math import inf, isnan

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rewact_ros.strict_yaml import (
    MAX_BYTES,
    MAX_COPIED,
    MAX_DEPTH,
    MAX_KEY,
    YamlError,
    load,
    load_json,
    parse,
    parse_json,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6e1", 60.0),
        ("6e-2", 0.06),
        ("-1.5E+2", -150.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("0", 0),
        ("+5", 5),
        ("-12", -12),
        ("0x1F", 31),
        ("0o17", 15),
        ("0.07", 0.07),
        ("0e-999", 0.0),
        (".inf", inf),
        ("-.INF", -inf),
        ("9223372036854775807", 2**63 - 1),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("Null", None),
        # What YAML 1.1 makes a boolean, a base-60 number, a number or a date of is text.
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("2026-11-27", "2026-11-27"),
        (".5e", ".5e"),
        ("2,5", "2,5"),
        ("0x", "0x"),
        ("'010'", "010"),
        ('"6e1"', "6e1"),
        ("'true'", "true"),
        ("|\n  010\n", "010\n"),
    ],
)
def test_a_scalar_is_what_is_written(text, value):
    read = parse(f"key: {text}")["key"]
    assert read == value and type(read) is type(value)
    assert isnan(parse("key: .nan")["key"])


def test_keys_are_text_however_they_look():
    read = parse("{1: a, on: b, true: c, 1.0: d, 010: e, null: f}")
    assert list(read) == ["1", "on", "true", "1.0", "010", "null"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\n  b: 1\n  c: 2\n  b: 3", "line 4: a.b: given twice, first in line 2; keep one"),
        ("a: [{b: 1, 'b': 2}]", "line 1: a[0].b: given twice"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  <<: *x", "line 4: c.<<: given twice, first in line 3"),
        ("a: 010", "line 1: a: 010 is octal to some readers; write 10,"),
        ("a: -007", "write 7,"),
        ("a: 00", "write 0,"),
        ("a: 08", "write 8,"),
        ("a: 1e999", "line 1: a: 1e999 is beyond what a number can hold"),
        ("a: 1e-999", "beyond what a number can hold"),
        ("a: 9223372036854775808", "line 1: a: 9223372036854775808 is beyond ±2^63"),
        ("a: 0x1ffffffffffffffff", "beyond ±2^63"),
        ("a: " + "9" * 5000, "beyond ±2^63"),
        ("x: 1\na: !!python/object/apply:os.system [ls]", "line 2: a: the tag '!!python/object/"),
        ("a: !!str 010", "line 1: a: the tag '!!str'"),
        ("a: ! x", "the tag '!'"),
        ("a: !mine x", "the tag '!mine'"),
        ("%TAG ! tag:example.com,2000:\n---\na: !b c", "line 3: a: the tag 'tag:example.com"),
        ("!!map {a: 1}", "the tag '!!map'"),
        ("!x a: 1", "line 1: expected a key that is a short plain text"),
        ("a: 1\n&x b: 1", "line 2: expected a key"),
        ("? [a]\n: b", "line 1: expected a key"),
        ("x: &a b\n*a : 1", "line 2: expected a key"),
        ("a: {'': 1}", "line 1: a: expected a key"),
        ('"a\\nb": 1', "expected a key"),
        ("k" * (MAX_KEY + 1) + ": 1", "expected a key"),
        ("a: 1\n---\nb: 2", "line 2: expected one document, got a second one"),
        ("a: 1\n---\n", "line 2: expected one document"),
        ("a: &a [*a]", "line 1: a[0]: the alias '*a' stands inside its own anchor"),
        ("a: &a {b: {c: *a}}", "a.b.c: the alias '*a' stands inside its own anchor"),
        ("a: *b", "line 1: a: no anchor '&b' before this alias"),
        ("a: {<<: 1}", "line 1: a.<<: expected a mapping, or a list of mappings"),
        ("a: {<<: [{b: 1}, 2]}", "a.<<: expected a mapping"),
        ("\ta: 1", "line 1: not valid YAML"),
        ("a:\n\tb: 1", "line 2: not valid YAML: while scanning for the next token found character "
         "'\\t' that cannot start any token; indent with spaces"),
        ("a: 1\nb: [", "not valid YAML"),
        ("a: b: c", "line 1: not valid YAML: mapping values are not allowed here"),
        ("a: 1\nb: \x00", "line 2: the character '\\x00' has no place"),
        ("a: \x1b[31m", "line 1: the character '\\x1b'"),
        ('a: "\\x1b[31m"', "line 1: a: the character '\\x1b'"),
        ('a: "\\ud800"', "line 1: a: the character '\\ud800'"),
        ('a: "\\UFFFFFFFF"', "not valid YAML"),
        ("%YAML 1." + "9" * 5000 + "\n---\na: 1", "not valid YAML"),
    ],
)  # fmt: skip
def test_what_has_two_meanings_or_none_is_refused_with_line_and_key(text, words):
    with pytest.raises(YamlError) as error:
        parse(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value) and str(error.value).isprintable()


def test_merge_keys_and_aliases_go_on_working():
    read = parse(
        """
        cam: &cam {type: image, shape: &shape [48, 64, 3], max_age_s: 0.3}
        slow: &slow {max_age_s: 2.0, rate: 5}
        front: {<<: *cam, topic: front}
        wrist: {topic: wrist, <<: *cam, max_age_s: 0.1}
        both: {<<: [*cam, *slow]}
        literal: {"<<": 1}
        shape: *shape
        """
    )
    assert read["front"] == {**read["cam"], "topic": "front"}
    assert read["wrist"]["max_age_s"] == 0.1 and read["wrist"]["type"] == "image"
    assert read["both"] == {**read["slow"], **read["cam"]}  # the first of a list counts
    assert read["literal"] == {"<<": 1} and read["shape"] == [48, 64, 3]
    read["shape"].append(0)
    assert read["cam"]["shape"] == [48, 64, 3]  # an alias is a copy
    assert parse("a: &x 5\nb: *x\nc: &x 6\nd: *x") == {"a": 5, "b": 5, "c": 6, "d": 6}


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(YamlError, match=r"line \d+: a\d\[\d\]: aliases copy more than"):
        parse("\n".join(lines))
    half = "x" * (MAX_COPIED // 2 - 1)
    assert parse(f"a: &a {half}\nb: [*a, *a]")["b"] == [half, half]
    with pytest.raises(YamlError, match=r"line 2: b\[2\]: aliases copy"):
        parse(f"a: &a {half}\nb: [*a, *a, *a]")


@pytest.mark.parametrize("one", ["[", "{a: ", "- ", "? ", "[{a: "])
def test_depth_is_bounded(one):
    with pytest.raises(YamlError):
        parse(one * 20_000)
    deep = "[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH
    assert str(parse(f"[{deep[1:]}")) == deep
    with pytest.raises(YamlError, match=f"line 1: .*more than {MAX_DEPTH} levels"):
        parse(f"[{deep}]")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("robot: Zoé\n".encode("latin-1"), "file.yaml: line 1: the byte 0xe9 is not UTF-8"),
        ("a: 1\nb: Zoé\n".encode("latin-1"), "file.yaml: line 2: the byte 0xe9"),
        ("a: 1".encode("utf-16"), "file.yaml: line 1: the byte 0xff"),
        ("a: 1".encode("utf-16-le"), "file.yaml: line 1: the character"),
        (b"a: 1\x00", "file.yaml: line 1: the character"),
        (b"#" * (MAX_BYTES + 1), f"file.yaml: expected at most {MAX_BYTES} bytes"),
        (b"a: 1\na: 2", "file.yaml: line 2: a: given twice"),
    ],
)
def test_a_file_is_utf_8_text_of_a_bounded_size(tmp_path, data, words):
    path = tmp_path / "file.yaml"
    path.write_bytes(data)
    with pytest.raises(YamlError, match=words):
        load(path)


def test_a_byte_order_mark_and_line_ends_of_windows_change_nothing(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_bytes("\ufeffa: 1\r\nb: é\r\n".encode())
    assert load(path) == {"a": 1, "b": "é"}
    path.write_bytes(b"a: 1".ljust(MAX_BYTES))
    assert load(path) == {"a": 1}


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(YamlError, match=r"pipe.yaml: expected a plain file"):
        load(tmp_path / "pipe.yaml")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "gone.yaml")


def test_json_has_no_key_twice_no_bottomless_nesting_and_no_nan(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('{"a": [1, 2.5, null], "b": {"a": true}}')
    assert load_json(path) == {"a": [1, 2.5, None], "b": {"a": True}}
    for text, words in (
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "file.json: b: given twice"),
        ("[" * 100_000, "file.json: not valid JSON: too many levels"),
        ('{"a": NaN}', "file.json: NaN is no number"),
        ('{"a": 1' + "0" * 400 + "}", "file.json: 1000"),
        ('{"a": ["\\ud800"]}', "file.json: not valid JSON: .* is half of a character"),
        ('{"a":\n-Infinity}', "file.json: -Infinity is no number"),
        ('{"a":\n]', "file.json: line 2: not valid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(YamlError, match=words):
            load_json(path)
    assert parse_json("1") == 1
    assert parse_json('"\\ud83e\\udd16"') == "\N{ROBOT FACE}"  # both halves


INDICATORS = [
    *"ab\n{}[]'\"~>#%!\té",
    "- ",
    ": ",
    "? ",
    ", ",
    "  ",
    "&x ",
    "*x",
    "<<: ",
    "---",
    "!!str ",
]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*INDICATORS, "010", "1e3", "on", "..."]), max_size=25).map("".join)
    | st.text(max_size=60)
)
def test_any_text_is_read_or_refused(text):
    try:
        value = parse(text)
    except YamlError as error:
        assert "\n" not in str(error)
        return
    reference = yaml.load(text.removeprefix("\ufeff"), Loader=yaml.BaseLoader)  # noqa: TID251
    assert _shape(value) == _shape(reference) or "<<" in text or value is None


def _shape(value):
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    return [_shape(inner) for inner in value] if isinstance(value, list) else "scalar"


# PyYAML, which reads YAML 1.1, writes texts as plain words that are numbers to YAML 1.2.
NUMBER_SINCE_12 = re.compile(r"[-+]?\d+[eE][-+]?\d+|0o[0-7]+")
TEXT = st.text(st.characters(exclude_categories=["C"]), max_size=12).filter(
    lambda text: not NUMBER_SINCE_12.fullmatch(text)
)
NUMBERS = st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False)
KEYS = st.text("abcyn", min_size=1, max_size=4)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | NUMBERS | TEXT,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=12,
    )
)
def test_what_pyyaml_writes_is_read_as_it_was(value):
    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    assert parse(yaml.dump({"top": value}, Dumper=Plain, allow_unicode=True)) == {"top": value}


def test_a_name_with_a_nul_is_no_file():
    with pytest.raises(YamlError, match="without a NUL"):
        load("a\0b.yaml")
