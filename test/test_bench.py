"""Published figures, the page made of them, and the comparison that guards them."""

import copy
import json

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from rewact_ros.bench.compare import KEPT_SHARE, compare, compare_topics
from rewact_ros.bench.figures import Bench
from rewact_ros.bench.page import SECTIONS, performance_page, reached
from rewact_ros.bench.topics import load_topic, topic_names
from rewact_ros.cli.app import app

RESULTS = ROOT / "docs" / "results"


def figure(value, goal="", unit="ratio", low=None, high=None):
    return {"value": value, "unit": unit, "goal": goal, "n": 5, "low": low, "high": high}


def document(topic="topic", quick=False, settings=None, **figures):
    return {
        "topic": topic,
        "machine": {"cpu": "a CPU", "cores": 2, "load_1min": 0.1, "python": "3.12"},
        "settings": {"quick": quick, **(settings or {})},
        "figures": figures,
    }


def write(folder, *documents):
    folder.mkdir(parents=True, exist_ok=True)
    for content in documents:
        (folder / f"{content['topic']}.json").write_text(json.dumps(content))
    return folder


def test_the_committed_page_is_what_the_results_give():
    page = (ROOT / "docs" / "performance.md").read_text()
    assert page == performance_page(RESULTS), "write it anew with `rewact bench report`"


@pytest.mark.parametrize(
    ("value", "goal", "expected"),
    [
        (4.0, "≥ 4", True),
        (3.9, "≥ 4", False),
        (0.05, "≤ 0.05 (β)", True),
        (50.0, "< 50", False),
        (0, "0", True),
        (2, "0", False),
        (0.79, "≥ 8 of 10", False),
        (0.8, "≥ 8 of 10", True),
        (1.0, "near 1", None),
        (149.0, "≤ 50 + 150 (period + limit)", None),
        (None, "≤ 1", None),
        (1.0, "", None),
    ],
)
def test_a_goal_is_judged_where_it_is_a_number(value, goal, expected):
    assert reached(figure(value, goal)) is expected


def test_the_page_says_first_what_is_missed_and_what_was_not_measured(tmp_path):
    results = write(
        tmp_path,
        document("throughput", fast_over_slow=figure(2.0, "≥ 3"), cost=figure(1.0, "≤ 3", "%")),
    )
    before, _, after = performance_page(results).partition("## Training")
    assert "1 of 2 goals are reached" in before
    assert "| throughput: fast over slow | 2 | ratio | ≥ 3 |" in before
    assert "Not measured yet: `engines`" in before and "`memory`" in before
    assert after.index("fast over slow") < after.index("cost")


def test_percentiles_of_one_thing_share_a_row(tmp_path):
    shares = {f"delay_p{share}": figure(share / 10, "", "ms") for share in (50, 95, 99)}
    shares["delay_p99"]["goal"] = "≤ 20"
    page = performance_page(write(tmp_path, document("path", **shares)))
    assert "| delay | 5 | 9.5 | 9.9 | ms | p99 ≤ 20 | yes |" in page


def test_engines_stand_beside_each_other_for_every_network(tmp_path):
    times = {
        f"{case}_{engine}_p{share}": figure(value * share / 50, "", "ms")
        for case in ("net", "shipped")
        for engine, value in (("lerobot", 8.0), ("torch_fp32", 6.0), ("openvino_bf16", 2.0))
        for share in (50, 99)
    }
    times["net_openvino_bf16_over_lerobot"] = figure(4.0)
    times["net_best_over_lerobot"] = figure(4.0, "≥ 4")
    for load, values in (("stage_upload", (1.0, 2.0)), ("robots_4", (3.0, 5.0))):
        for share, value in zip((50, 99), values, strict=True):
            times[f"net_{load}_p{share}"] = figure(value, "", "ms")
    times["net_robots_4_rate"] = figure(200.0, "", "Hz for each")
    settings = {"cases": ["net"], "shipped": ["shipped"], "robots": {"net": "graph bf16"}}
    page = performance_page(write(tmp_path, document("engines-gpu", settings=settings, **times)))
    assert "| net stage upload | 1 | 2 | ms |  |  |" in page and "`robots`" not in page
    assert "| 4 × net, graph bf16 | 3.0 (5.0) | 200 |" in page
    assert "| `openvino` bf16 | 2.0 (4.0) · **4.0×** |" in page
    assert "| net best over lerobot | 4 | ratio | ≥ 4 | yes |" in page


def test_every_topic_of_the_page_has_a_heading_of_its_own():
    assert len({s.topic for s in SECTIONS}) == len({s.heading for s in SECTIONS}) == len(SECTIONS)


def test_a_ratio_that_fell_is_lost_and_one_within_the_noise_is_kept():
    published = document(
        a_over_b=figure(4.0),
        c_over_d=figure(2.0, low=1.0, high=3.0),
        load=figure(1.0, "≤ 1.5"),
        time=figure(9.0, unit="ms"),
    )
    kept = copy.deepcopy(published)
    kept["figures"]["a_over_b"]["value"] = 4.0 * KEPT_SHARE
    kept["figures"]["c_over_d"]["value"] = 1.0
    kept["figures"]["load"]["value"] = 1.2
    kept["figures"]["time"]["value"] = 900.0
    assert [row.kept for row in compare(kept, published)] == [True, True, True]
    lost = copy.deepcopy(published)
    lost["figures"]["a_over_b"]["value"] = 3.1
    lost["figures"]["c_over_d"]["value"] = 0.9
    lost["figures"]["load"]["value"] = 1.3
    assert [row.kept for row in compare(lost, published)] == [False, False, False]


def test_a_ratio_that_a_full_run_no_longer_has_is_lost():
    published = document(a_over_b=figure(4.0))
    assert compare(document(), published)[0].kept is False
    assert compare(document(quick=True), published)[0].kept is None


def test_a_topic_that_was_not_measured_is_named(tmp_path):
    published = write(tmp_path / "published", document(a_over_b=figure(4.0)))
    with pytest.raises(ValueError, match="no topic is both in"):
        compare_topics(tmp_path, published)
    with pytest.raises(ValueError, match="measure it with `rewact bench topic`"):
        compare_topics(tmp_path, published, ["topic"])


@pytest.mark.parametrize("topic", topic_names(ROOT / "benchmarks"))
def test_every_topic_still_finds_what_it_imports(topic, tmp_path, own_modules):
    assert callable(load_topic(ROOT / "benchmarks", Bench(topic, True, tmp_path)))


@pytest.mark.parametrize(
    ("given", "why"),
    [({"only": ("reach",)}, "leave --only out"), ({"workers": 2}, "leave --workers out")],
)
def test_parts_are_chosen_only_where_there_are_some(given, why, tmp_path, own_modules):
    with pytest.raises(ValueError, match=why):
        load_topic(ROOT / "benchmarks", Bench("engines", True, tmp_path, **given))
    assert callable(load_topic(ROOT / "benchmarks", Bench("tasks", True, tmp_path, **given)))


def test_a_policy_that_there_is_not_is_named(tmp_path, own_modules):
    asked = Bench("policies", True, tmp_path, only=("ACTT",))
    with pytest.raises(ValueError, match="expected some of .*RewACT; ACT; .*got ACTT"):
        load_topic(ROOT / "benchmarks", asked)(asked)


def test_what_was_measured_before_a_failure_is_written(tmp_path, monkeypatch):
    def breaks(result):
        result.add("speed", 2.0, "ratio")
        raise RuntimeError("the second part fails")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rewact_ros.cli.bench.load_topic", lambda folder, asked: breaks)
    result = CliRunner().invoke(app, ["bench", "engines"])
    assert "the second part fails" in str(result.exception)
    found = json.loads((tmp_path / "runs/bench/engines.json").read_text())
    assert found["figures"]["speed"]["value"] == 2.0
    assert found["settings"]["ended early"] == "RuntimeError"


def test_the_command_fails_on_a_lost_ratio_and_on_no_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = json.loads((RESULTS / "throughput.json").read_text())
    measured = tmp_path / "runs" / "bench"
    write(measured, content)
    kept = CliRunner().invoke(app, ["bench", "compare", "throughput"])
    assert kept.exit_code == 0 and "none of" in kept.output
    name, ratio = next(
        (name, each) for name, each in content["figures"].items() if each["unit"] == "ratio"
    )
    ratio["value"] = 0.01
    write(measured, content)
    lost = CliRunner().invoke(app, ["bench", "compare"])
    assert lost.exit_code == 1 and f"ratios lost: throughput: {name}" in lost.output


def test_a_part_measured_anew_keeps_the_others_of_the_same_settings(tmp_path):
    def measured(only, value, **settings):
        bench = Bench("topic", False, tmp_path, only=only, settings={"scenes": 20, **settings})
        for name in only or ("a", "b"):
            bench.add(f"{name}: success", value, "share")
        bench.keep_parts(("scenes",))
        (tmp_path / "topic.json").write_text(json.dumps(bench.document({})))
        return {name: figure.value for name, figure in bench.figures.items()}

    assert measured((), 0.5) == {"a: success": 0.5, "b: success": 0.5}
    assert measured(("b",), 0.9) == {"a: success": 0.5, "b: success": 0.9}
    assert measured((), 0.7) == {"a: success": 0.7, "b: success": 0.7}  # all of it is new
    assert measured(("b",), 0.9, scenes=30) == {"b: success": 0.9}
