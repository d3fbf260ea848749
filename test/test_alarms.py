"""The table of alarms: a row is all that an alarm needs beside the code of its score."""

import math
import re
from dataclasses import asdict, fields
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, VX300S

from rewact_ros.contract import load_contract
from rewact_ros.ros.episode_settings import rules_of
from rewact_ros.ros.params import SupervisorParams, alarm_fields
from rewact_ros.settings import setting
from rewact_ros.supervision import alarms
from rewact_ros.supervision.alarms import ALARMS, Alarm
from rewact_ros.supervision.calibration import (
    Basis,
    CalibrationError,
    CalibrationSettings,
    load_calibration,
)
from rewact_ros.supervision.conformal import CalibrationEpisode, calibrate, check_counts
from rewact_ros.supervision.escalation import Ladder
from rewact_ros.supervision.monitor import EpisodeMonitor, Thresholds
from rewact_ros.supervision.signals import PolicySample, SignalSettings, SignalTracker

RATE_HZ, FRAMES = 20.0, 60
BASIS = Basis("reward", "policy", "contract", ("front",), RATE_HZ, FRAMES / RATE_HZ)
SIGNALS = SignalSettings(level="mean")
FALLING = Alarm(
    name="falling",
    key="falling",
    measures="how far progress has been falling",
    score=lambda moment: moment.signals.slope_cusum,
    share=1,
    limit=setting(0.3, "a longer fall is an alarm, where not calibrated", low=0.01, high=1.0),
    ladder="warn 0",
)


@pytest.fixture
def falling(monkeypatch):
    monkeypatch.setitem(ALARMS, FALLING.name, FALLING)


def rollouts(count: int) -> list[CalibrationEpisode]:
    """Successes in their last frame but one, whose progress goes up and down."""
    rng, found = np.random.default_rng(0), []
    for index in range(count):
        tracker = SignalTracker(SIGNALS)
        means = np.clip(np.cumsum(rng.normal(0.01, 0.05, FRAMES)), 0, 1)
        signals = [tracker.add(PolicySample(i / RATE_HZ, m)) for i, m in enumerate(means)]
        found.append(CalibrationEpisode.of(f"episode {index}", signals, None, FRAMES - 2))
    return found


def alarms_after_a_fall(monitor: EpisodeMonitor) -> frozenset[str]:
    judged = frozenset()
    for i in range(FRAMES):
        monitor.add(PolicySample(i / RATE_HZ, min(0.9, 0.05 * i) if i < 40 else 0.1))
        judged = monitor.step(i / RATE_HZ).alarms
    return judged


# One row ------------------------------------------------------------------------------------------


def test_an_added_row_is_judged_by_the_limit_that_it_says_or_another(falling):
    assert "falling" in alarms_after_a_fall(EpisodeMonitor(Thresholds(), SIGNALS))
    assert "falling" not in alarms_after_a_fall(EpisodeMonitor(Thresholds(falling=5.0), SIGNALS))


def test_an_added_row_has_parameters_from_which_the_supervisor_takes_limit_and_ladder(falling):
    added = {name: (kind, field.default) for name, kind, field in alarm_fields()}
    assert added["falling"] == (float, 0.3) and added["ladder_falling"] == (str, "warn 0")
    params = asdict(SupervisorParams()) | {"falling": 0.2, "ladder_falling": "abort 1"}
    judging = rules_of(SimpleNamespace(**params), load_contract(VX300S)).usual.judging
    assert judging.thresholds.limits["falling"] == 0.2
    assert judging.escalation.ladders["falling"] == Ladder(1.0, 1.0, 1.0)
    params["ladder_falling"] = "shout"
    with pytest.raises(ValueError, match="parameter ladder_falling: 'shout'"):
        rules_of(SimpleNamespace(**params), load_contract(VX300S))


def test_an_added_row_takes_its_part_of_alpha_and_is_calibrated_saved_and_judged(falling, tmp_path):
    settings = CalibrationSettings(beta=0.5, alpha=0.8, verdict_s=0.05)
    made = calibrate(rollouts(40), SIGNALS, BASIS, settings)
    assert {name: bound.rate for name, bound in made.alarms.items()} == {
        "stall": 0.2,
        "drawdown": 0.2,
        "falling": 0.2,
    }
    made.save(tmp_path / "calibration.json")
    found = load_calibration(tmp_path / "calibration.json")
    assert found.alarms == made.alarms
    limits = Thresholds.calibrated(found).limits
    assert limits["falling"] == found.alarms["falling"].threshold
    assert limits["novelty"] == math.inf
    assert "falling" in alarms_after_a_fall(EpisodeMonitor.calibrated(found))


def test_an_added_row_makes_the_same_alpha_need_more_roll_outs(monkeypatch):
    settings = CalibrationSettings(beta=0.5, alpha=0.3)
    check_counts(9, 9, settings, features=False)
    monkeypatch.setitem(ALARMS, FALLING.name, FALLING)
    with pytest.raises(CalibrationError, match=r"expected 13 .*got 9 .*which support 0\.4"):
        check_counts(9, 9, settings, features=False)


def test_a_calibration_from_before_an_added_row_is_refused(monkeypatch, tmp_path):
    settings = CalibrationSettings(beta=0.5, alpha=0.8, verdict_s=0.05)
    calibrate(rollouts(40), SIGNALS, BASIS, settings).save(tmp_path / "calibration.json")
    monkeypatch.setitem(ALARMS, FALLING.name, FALLING)
    with pytest.raises(CalibrationError, match=r"'falling', 'stall'\], got .* make it anew"):
        load_calibration(tmp_path / "calibration.json")


# The whole table ----------------------------------------------------------------------------------


def test_the_parts_of_alpha_are_all_of_it():
    alpha = Fraction(1, 20)
    assert sum(alarms.rate(alarm, alpha) for alarm in alarms.calibrated()) == alpha


def test_a_threshold_of_no_alarm_is_refused_by_name():
    with pytest.raises(ValueError, match="stal_s: expected one of stall_s, drawdown"):
        Thresholds(stal_s=1.0)


def test_every_row_has_a_ladder_that_reads_and_a_field_of_its_own_in_the_message():
    message = (ROOT / "msg" / "SupervisorStatus.msg").read_text()
    carried = [alarm.field for alarm in ALARMS.values() if alarm.field]
    assert set(carried) <= set(re.findall(r"^float32 (\w+)", message, re.MULTILINE))
    assert len(carried) == len(set(carried))
    names = {field.name for field in fields(SupervisorParams)}
    for alarm in ALARMS.values():
        Ladder.parse(alarm.ladder)
        assert f"ladder_{alarm.name}" in names and (alarm.key in names) == bool(alarm.limit)


def test_the_documented_table_is_the_whole_table():
    text = (ROOT / "docs" / "calibration.md").read_text()
    table = text.split("| alarm | score |")[1].split("\n\n")[0].splitlines()[2:]
    assert table == [alarm.documentation for alarm in ALARMS.values()]
