"""A strict reader of Prometheus's text format: what the format forbids fails the test."""

import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (NaN|[+-]Inf|[-+0-9.e]+)")
_KINDS = ("gauge", "counter")
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def parse(text):
    """{(name, ((label, value), …)): number} of a text; fails where it breaks the format."""
    assert not text or text.endswith("\n")
    samples, kinds, helped, family = {}, {}, set(), ""
    for line in text.split("\n")[:-1]:
        assert line and line.isprintable(), repr(line)
        if line.startswith("# HELP "):
            family = line.split(" ")[2]
            assert family not in helped, f"{family} begins twice"
            helped.add(family)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family and kind in _KINDS and name not in kinds
            assert name.endswith("_total") == (kind == "counter")
            kinds[name] = kind
        else:
            match = _SAMPLE.fullmatch(line)
            assert match, repr(line)
            name, inside, number = match.groups()
            assert name == family and name in kinds, f"{name} stands apart from its TYPE"
            key = (name, _labels(inside or ""))
            assert key not in samples, f"{key} is there twice"
            samples[key] = float(number)
    return samples


def _labels(inside):
    found, at = [], 0
    while at < len(inside):
        match = _LABEL.match(inside, at)
        assert match, repr(inside[at:])
        found.append((match[1], re.sub(r"\\.", lambda m: _ESCAPES[m[0]], match[2])))
        at = match.end()
    assert len({name for name, _ in found}) == len(found)
    return tuple(found)
