"""Lines of a commented contract, and which of them are guesses."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class Draft:
    """Text of a contract, and what of it is a guess."""

    lines: list[str] = field(default_factory=list)
    guesses: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The file."""
        return "\n".join(self.lines) + "\n"

    def say(self, key: str, value: object, why: str, indent: int = 0, guess: bool = False) -> None:
        """One `key: value  # why` line."""
        if guess:
            self.guesses.append(key)
            why = f"guess: {why}"
        self.lines.append(f"{' ' * indent}{quoted(key)}: {quoted(value)}  {comment(why)}")

    def list_names(
        self, names: Iterable[str], drivers: Mapping[str, str], why: str, indent: int, guess: bool
    ) -> None:
        """`joints:` as a list, or as a mapping to the driver's names where they differ."""
        if guess:
            self.guesses.append("joints")
            why = f"guess: {why}"
        self.lines.append(f"{' ' * indent}joints:  {comment(why)}")
        names = list(names)
        same = all(drivers.get(name, name) == name for name in names)
        for name in names:
            line = f"- {quoted(name)}" if same else f"{quoted(name)}: {quoted(drivers[name])}"
            self.lines.append(f"{' ' * (indent + 2)}{line}")


def comment(why: str) -> str:
    """A comment of one line: what is in it comes from files and messages of others."""
    return "# " + "".join(c if c.isprintable() else " " for c in why)[:400]


def quoted(value: object) -> str:
    """A value as strict YAML reads it back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(quoted(each) for each in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{quoted(k)}: {quoted(v)}' for k, v in value.items())}}}"
    if isinstance(value, str):
        plain = value.replace("_", "").replace("/", "").replace(".", "").isalnum()
        words = {"true", "false", "null", "yes", "no", "on", "off"}
        if plain and value.isascii() and value[0].isalpha() and value.lower() not in words:
            return value
        return json.dumps(value, ensure_ascii=False)
    return str(value)
