"""What Prometheus is told: right, absent where unknown, and whole whatever the graph says."""

import json
import math
import time

import pytest
from conftest import VX300S
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from exposition_parser import parse
from malformed import HOSTILE_TEXT, forms, right

from rewact_ros.contract import load_contract
from rewact_ros.control.modes import Mode
from rewact_ros.exposition import LABEL_LIMIT, MOST_SAMPLES, Exposition, Family
from rewact_ros.msg import ControlStatus, LearnerStatus, RecorderStatus, SupervisorStatus, Timing
from rewact_ros.ros.door import MalformedError, read_message
from rewact_ros.ros.robot_metrics import (
    MOST_OTHERS,
    MOST_VALUES,
    REMEMBERED_S,
    SILENT_S,
    STATUSES,
    RobotMetrics,
)
from rewact_ros.ros.streams import read_streams

NAN = float("nan")
NASTY = ('a"b', "a\\", 'x"} 1\nrewact_mode{mode="POLICY"} 1', "\ud800", "", "é😀", HOSTILE_TEXT)


def told(name, level=b"\0", message="", **values):
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, values=pairs)


def labelled(samples, name):
    return {labels: value for (of, labels), value in samples.items() if of == name}


def test_a_text_has_every_family_once_with_its_samples_and_bounds():
    family = Family("rewact_a", "gauge", "with a \\ and\na line", ("x",))
    out = Exposition(most=3)
    for label in ("one", 'two "quoted"\\', "one", "x" * 500, "four"):
        out.add(family, 0.5, label)
    out.add(family, NAN, "unknown")
    out.add(family, math.inf, "never")
    out.add(family, 10**400, "too large for a number")
    samples = parse(out.text())
    assert out.left_out == 2  # the second `one`, and what had no room
    assert [labels[0][1] for _, labels in samples] == [
        "one", 'two "quoted"\\', "x" * (LABEL_LIMIT - 1) + "…",
    ]  # fmt: skip
    assert parse(Exposition().text()) == {}


def test_status_messages_become_samples():
    metrics = RobotMetrics()
    timing = Timing(name="tick_lateness", n=9, p50_ms=1.0, p95_ms=2.0, p99_ms=4.0)
    metrics.take(
        ControlStatus(mode=3, resume_required=True, commands=7, clipped=2, timings=[timing]), 10.0
    )
    metrics.take(
        SupervisorStatus(
            phase="running", progress=0.5, level=NAN, staleness=math.inf, alarms=["stalled"]
        ),
        10.0,
    )
    metrics.take(RecorderStatus(recording=True, topics=["/a", "/b"], received=[5], bytes=3), 10.0)
    metrics.take(LearnerStatus(learning=True, names=["q"], values=[1.5]), 10.0)
    samples = parse(metrics.text(11.0))
    modes = labelled(samples, "rewact_mode")
    assert modes == {(("mode", mode.name),): float(mode is Mode.HUMAN) for mode in Mode}
    assert samples["rewact_resume_required", ()] == 1
    assert samples["rewact_commands_total", ()] == 7
    assert samples["rewact_clipped_commands_total", ()] == 2
    timings = labelled(samples, "rewact_timing_seconds")
    assert timings[("timing", "tick_lateness"), ("percentile", "99")] == 0.004
    assert samples["rewact_progress", ()] == 0.5
    assert samples["rewact_alarm", (("alarm", "stalled"),)] == 1
    assert samples["rewact_bag_messages", (("topic", "/a"),)] == 5
    assert samples["rewact_learner_figure", (("name", "q"),)] == 1.5
    # Absent is not zero.
    assert not {"rewact_level", "rewact_reward_age_seconds"} & {name for name, _ in samples}
    assert samples["rewact_status_age_seconds", (("topic", "rewact/control_status"),)] == 1.0


def test_diagnostics_become_samples_of_the_nodes_of_this_robot():
    metrics = RobotMetrics("/left")
    stream = {"topic": "front", "hz": 19.5, "contract_hz": 20, "age_s": 0.1, "limit_s": 1,
              "state": "ok"}  # fmt: skip
    array = DiagnosticArray(
        status=[
            told("/left/hil", b"\1", commands="12.5", port="12 of 3", **{"stream front": "{}"}),
            told("/left/policy", **{"stream front": json.dumps(stream)}),
            told("/right/hil"), told("/hil"), told("hil"), told("/left/arm/hil"),
            told("usb_cam: frame rate", b"\2"),
        ]
    )  # fmt: skip
    metrics.take_diagnostics(array, 1.0)
    samples = parse(metrics.text(2.0))
    assert labelled(samples, "rewact_diagnostic_level") == {
        (("node", "hil"),): 1, (("node", "policy"),): 0, (("node", "usb_cam: frame rate"),): 2,
    }  # fmt: skip
    assert samples["rewact_diagnostic_value", (("node", "hil"), ("key", "commands"))] == 12.5
    assert len(labelled(samples, "rewact_diagnostic_value")) == 1
    assert samples["rewact_stream_rate_hertz", (("node", "policy"), ("topic", "front"))] == 19.5


def test_who_falls_silent_is_absent_but_for_the_age():
    metrics = RobotMetrics()
    metrics.take(ControlStatus(mode=1), 0.0)
    metrics.take_diagnostics(DiagnosticArray(status=[told("/hil")]), 0.0)
    silent = {name for name, _ in parse(metrics.text(SILENT_S + 0.1))}
    assert silent == {
        "rewact_status_age_seconds", "rewact_diagnostic_age_seconds", "rewact_left_out",
    }  # fmt: skip
    metrics.take_diagnostics(DiagnosticArray(), REMEMBERED_S + 1.0)
    later = parse(metrics.text(REMEMBERED_S + 1.0))
    assert not labelled(later, "rewact_diagnostic_age_seconds")


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_no_name_breaks_the_text_or_forges_a_sample(text):
    metrics = RobotMetrics()
    metrics.take_diagnostics(DiagnosticArray(status=[told("driver " + text, x="1")]), 0.0)
    status = metrics._told["driver " + text][1]
    status.values = [KeyValue(key="k" + text, value="1.5"), KeyValue(key="stream t", value=text)]
    metrics.take(SupervisorStatus(phase=text, alarms=[text, text], progress=0.5), 0.0)
    metrics.take(RecorderStatus(topics=[text], received=[1, 2, 3]), 0.0)
    body = metrics.text(1.0)
    samples = parse(body)
    body.encode()
    assert labelled(samples, "rewact_mode") == {}  # nobody told it
    assert samples["rewact_progress", ()] == 0.5
    assert samples["rewact_left_out", ()] >= 1  # the alarm that was there twice


def test_a_stream_of_a_stranger_may_hold_anything():
    stream = {"topic": "x", "hz": 1.0, "contract_hz": 1, "age_s": None, "limit_s": 1,
              "state": "ok"}  # fmt: skip
    metrics = RobotMetrics()
    assert len(read_streams({"stream a": json.dumps(stream)})) == 1
    for value in ([1], {}, True, 10**400, NAN):
        for key in ("hz", "age_s", "topic", "state"):
            text = json.dumps(stream | {key: value})
            assert read_streams({"stream a": text}) == []
            array = DiagnosticArray(status=[told("/policy", **{"stream a": text, "n": "9" * 400})])
            metrics.take_diagnostics(array, 0.0)
            assert parse(metrics.text(0.5))["rewact_diagnostic_level", (("node", "policy"),)] == 0


def test_a_flood_of_names_is_bounded_and_leaves_our_own_nodes_their_room():
    metrics = RobotMetrics()
    for batch in range(50):
        flood = [told(f"{batch}-{i}", **{f"k{n}": n for n in range(150)}) for i in range(40)]
        metrics.take_diagnostics(DiagnosticArray(status=flood), 0.0)
    metrics.take_diagnostics(DiagnosticArray(status=[told("/hil", commands=3)]), 0.0)
    learner = LearnerStatus(names=[f"n{i}" for i in range(9999)], values=[0.0] * 9999)
    metrics.take(learner, 0.0)
    body = metrics.text(1.0)
    samples = parse(body)
    assert len(samples) <= MOST_SAMPLES + 1
    assert len(labelled(samples, "rewact_learner_figure")) == MOST_VALUES
    assert len(labelled(samples, "rewact_diagnostic_level")) <= MOST_OTHERS + 1
    assert samples["rewact_diagnostic_value", (("node", "hil"), ("key", "commands"))] == 3
    assert samples["rewact_left_out", ()] > 1900
    assert len(body) < 1_000_000


@pytest.mark.parametrize("kind", [*STATUSES, DiagnosticArray], ids=lambda kind: kind.__name__)
def test_every_malformed_message_that_passes_the_door_leaves_a_whole_text(kind):
    metrics, contract = RobotMetrics(), load_contract(VX300S)
    tried = 0
    for _, form in forms(lambda: right(kind, "any", contract, time.time_ns())):
        try:
            message = read_message(form, kind)
        except MalformedError:
            continue
        take = metrics.take_diagnostics if kind is DiagnosticArray else metrics.take
        take(message, 0.0)
        parse(metrics.text(1.0))
        tried += 1
    assert tried > 3


def test_prometheus_own_parser_reads_the_same():
    parser = pytest.importorskip("prometheus_client.parser")
    metrics = RobotMetrics()
    for text in NASTY:
        metrics.take_diagnostics(DiagnosticArray(status=[told("driver " + text, x="1")]), 0.0)
    metrics.take(ControlStatus(mode=2, commands=3), 0.0)
    metrics.take(SupervisorStatus(phase='a"b\\', alarms=["x"]), 0.0)
    body = metrics.text(1.0)
    theirs = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(body)
        for sample in family.samples
    }
    assert theirs == parse(body) and len(theirs) > 30
