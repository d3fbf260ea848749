"""Settings: one field gives the check, the option, the parameter and their words."""

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from rewact_ros.cli.options import OptionsOf, with_options
from rewact_ros.ros.parameter_values import describe
from rewact_ros.ros.params import NODE_PARAMS
from rewact_ros.settings import check, meaning, same, setting, setting_of


class SettingError(ValueError):
    pass


@dataclass(frozen=True)
class Drive:
    steps: int = setting(5, "how many; 0: none", low=0, high=9)
    noise_rad: float = setting(0.1, "of the joints", "rad", 0.0, 0.5, option="noise")
    share: float = setting(0.5, "of a batch", low=0, below=1)
    rate: float = setting(1e-3, "of learning", above=0)
    silence_s: float = setting(3.0, "longest", "s", low=0, high=math.inf)
    pause: float = setting(2.0, "between two", "periods", above=1, high=10)
    kind: str = setting("", "what it is", choices=("", "fast", "slow"))
    quiet: bool = setting(False, "say nothing")
    helped: bool = setting(True, "let somebody help")
    name: str | None = setting(None, "of the run")

    def __post_init__(self) -> None:
        check(self, SettingError)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 10}, "steps: expected 0 to 9, got 10"),
        ({"noise_rad": -0.1}, "noise_rad: expected 0 to 0.5, got -0.1"),
        ({"share": 1.0}, "share: expected 0 to below 1, got 1.0"),
        ({"rate": 0.0}, "rate: expected more than 0, got 0.0"),
        ({"rate": math.inf}, "rate: expected more than 0, got inf"),
        ({"pause": 1.0}, "pause: expected above 1 to 10 periods, got 1.0"),
        ({"silence_s": -1}, "silence_s: expected 0 or more, got -1"),
        ({"silence_s": math.nan}, "silence_s: expected 0 or more, got nan"),
        ({"kind": "odd"}, "kind: expected fast or slow, got 'odd'"),
    ],
)
def test_a_refused_setting_is_named_with_expected_and_got(given, words):
    with pytest.raises(SettingError) as error:
        Drive(**given)
    assert str(error.value) == words


def test_bounds_are_themselves_allowed_and_infinity_only_where_it_is_said():
    Drive(steps=0, noise_rad=0.5, share=0, silence_s=math.inf, kind="slow", name="x")


def test_a_setting_of_another_class_differs_only_where_it_is_said():
    @dataclass(frozen=True)
    class Other:
        steps: int = same(Drive, "steps", default=2)
        share: float = same(Drive, "share", below=None, high=1)

    assert Other() == Other(steps=2, share=0.5) and Other(share=1).share == 1
    assert setting_of(Other, "steps").metadata == setting_of(Drive, "steps").metadata


def test_the_help_has_unit_and_choices_before_what_follows_the_semicolon():
    assert meaning(setting_of(Drive, "noise_rad").metadata) == "Of the joints [rad]."
    assert meaning(setting_of(Drive, "kind").metadata) == "What it is: fast or slow."
    speed = {**setting_of(Drive, "kind").metadata, "doc": "pace; slow is safe", "unit": "m/s"}
    assert meaning(speed) == "Pace [m/s]: fast or slow; slow is safe."


@pytest.fixture
def drive():
    """Run a command with the options of `Drive`; returns what it got, or its output."""
    got = {}
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @with_options
    def command(
        out: Annotated[str, typer.Option(help="Folder.")],
        *,
        given: Annotated[dict[str, Any], OptionsOf(Drive, but=("rate",), defaults={"steps": 7})],
        silence_s: Annotated[float, typer.Option(help="By hand.")] = 4.0,
    ) -> None:
        got.update(out=out, silence_s=silence_s, settings=Drive(**given))

    def run(*words):
        got.clear()
        result = CliRunner().invoke(app, ["--out", "x", *words])
        return got or result.output

    return run


def test_options_have_names_defaults_and_switches_of_the_fields(drive):
    assert drive() == {"out": "x", "silence_s": 4.0, "settings": Drive(steps=7)}
    given = drive("--steps", "3", "--noise", "0.2", "--quiet", "--no-helped", "--silence-s", "2")
    assert given["settings"] == Drive(steps=3, noise_rad=0.2, quiet=True, helped=False)
    assert given["silence_s"] == 2.0
    shown = drive("--help")
    assert "Of the joints [rad]." in shown and "[default: 7; 0<=x<=9]" in shown
    assert "--rate" not in shown and "--no-quiet" not in shown and "inf" not in shown


def test_an_option_out_of_bounds_is_refused_by_its_name(drive):
    assert "'--noise'" in drive("--noise", "0.6")
    assert "'--steps'" in drive("--steps", "10")


def test_every_number_among_the_parameters_has_a_range_that_ros_shows():
    for kind in NODE_PARAMS.values():
        for f in fields(kind):
            shown = describe(f)
            ranges = {int: shown.integer_range, float: shown.floating_point_range}
            assert len(ranges.get(f.type, [None])) == 1, f.name
