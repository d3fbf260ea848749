"""The benchmark of tasks: its stages run on a task of another package, and count what they say."""

import json
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import tasks as topic
from tasks_judge import held_levels, judgement, rates
from tasks_recipe import SarmSettings, quick
from tasks_sarm import Sarm, Seen
from tasks_scenes import by_script, outcomes
from tasks_stages import STAGES, Job, StaleError, run_stages, supported

from rewact_ros.bench.figures import Bench, Figure
from rewact_ros.bench.results import markdown
from rewact_ros.contract import load_contract
from rewact_ros.episodes.settings import RolloutSettings
from rewact_ros.learning.imitation.demonstrations import load_demonstrations
from rewact_ros.sim import task as tasks
from rewact_ros.stack.bringup import default_contract
from rewact_ros.supervision.calibration import Basis, Bound, Calibration, CalibrationSettings
from rewact_ros.supervision.conformal import CalibrationEpisode, check_counts
from rewact_ros.supervision.signals import SignalSettings

pytestmark = pytest.mark.timeout(900)  # of the first test, which runs every stage
GOOD, BAD = np.array([0.1, 0.5, 0.95]), np.array([0.1, 0.3, 0.4, 0.4])


@pytest.fixture(scope="module", autouse=True)
def _reach():
    """The example's task, as if its package were installed."""
    point = EntryPoint("reach", "rewact_reach:Reach", tasks.ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples" / "reach_task"))
        patch.setattr(tasks, "entry_points", lambda group: [point])
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Every stage with the smallest sizes."""
    plan = quick()
    few = {"steps": 8, "batch_size": 4, "save_every": 8}
    small = {"dim_model": "16", "n_heads": "2", "dim_feedforward": "32", "n_encoder_layers": "1"}
    recipe = replace(
        plan.recipe,
        training=replace(plan.recipe.training, **few, policy=plan.recipe.training.policy | small),
        weak_steps=4,
        correction=replace(plan.recipe.correction, **few),
    )
    plan = replace(
        plan,
        recipe=recipe,
        patience=1.0,
        scenes=4,
        calibrated=4,
        least=4,
        judged=4,
        corrected=1,
        corrected_scenes=1,
    )
    job = Job("reach", tmp_path_factory.mktemp("bench") / "tasks" / "reach", plan)
    # LeRobot's own trainer takes most of a minute to start twice; `--quick` starts it.
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(STAGES, "act")
        assert run_stages(job) == {}
        yield job


def test_every_stage_leaves_its_result_and_is_not_done_again(done, monkeypatch):
    files = [done.folder / f"{name}.json" for name in STAGES]
    before = [file.read_text() for file in files]
    monkeypatch.setattr("tasks_stages.write_demos", None)  # none is called
    assert run_stages(done) == {} and [file.read_text() for file in files] == before
    assert not done.frames.exists(), "decoded frames are left behind"


def test_results_of_other_settings_are_refused_by_name(done):
    other = replace(done, plan=replace(done.plan, scenes=3))
    with pytest.raises(StaleError, match=r"success\.json: scenes: made with 4, now 3; move "):
        run_stages(other)


def test_scenes_for_training_choosing_and_reporting_are_apart(done):
    def seeds(part):
        reports = (done.folder / part).rglob("rollouts.json")
        return {e["seed"] for file in reports for e in json.loads(file.read_text())["episodes"]}

    demos = json.loads((done.demos / "meta" / "demos.json").read_text())["episodes"]
    assert all(episode["seed"] < 100_000 for episode in demos)
    assert max(seeds("judged")) < 100_000 <= min(seeds("calibration"))
    assert max(seeds("calibration")) < 200_000 <= min(seeds("reported"))


def test_where_the_policy_lacks_an_outcome_others_give_it(done):
    gathered = done.read("judge")["gathered"]
    for counts in (gathered["successes"], gathered["failures"]):
        assert sum(counts.values()) >= done.plan.least
    assert next(iter(gathered["sources"])) == "policy"
    reward = done.read("judge")["judges"]["reward"]
    assert done.read("sarm")["judge"]["auc"]["n"] == reward["auc"]["n"]  # on the same roll-outs
    total = sum(map(sum, (gathered["successes"].values(), gathered["failures"].values())))
    assert reward["recognised"]["n"] + reward["crossed"]["n"] == reward["auc"]["n"] == total


def test_every_judged_roll_out_has_a_verdict_and_a_failure_nothing_else(done):
    judged = done.read("verdicts")["judged"]
    assert judged["successes"] + judged["failures"] == done.plan.judged and judged["failures"]
    for folder in (done.folder / "judged").iterdir():
        data = load_demonstrations(folder)
        assert not data.reward[~data.succeeds].any()


def test_the_supervisor_is_calibrated_on_scenes_of_its_own_and_counted_on_those_reported(done):
    supervisor = done.read("verdicts")["supervisor"]
    assert supervisor["rates"]["false_completions"]["n"] == 8  # the policy's and the expert's
    assert supervisor["rates"]["alarmed"]["n"] + supervisor["rates"]["detected"]["n"] == 8
    assert 0 < supervisor["beta"] < 1 and 0 < supervisor["alpha"] < 1


def test_the_table_has_a_row_for_the_task_with_intervals(done, tmp_path):
    bench = Bench("tasks", True, tmp_path)
    topic.report(bench, done.folder.parent, ["reach"])
    assert bench.figures["reach: success"].n == done.plan.scenes
    text = markdown(
        {
            "topic": "tasks",
            "machine": {},
            "settings": bench.settings,
            "figures": {k: vars(f) for k, f in bench.figures.items()},
        }
    )
    row = next(line for line in text.splitlines() if line.startswith("| reach |"))
    assert row.count("|") == len(bench.settings["grid"]["columns"]) + 2
    assert f"; {done.plan.scenes})" in row


def test_a_row_that_was_published_stays_unless_it_is_measured_whole_or_by_another_plan(
    done, tmp_path
):
    bench = Bench("tasks", True, tmp_path, settings={"plan": topic.plan_hash(done.plan)})
    topic.report(bench, done.folder.parent, ["reach"])
    other = {"so101/pick-cube: success": Figure(0.75, "share", "≥ 0.9", 100, 0.66, 0.82)}
    bench.figures |= other
    bench.settings["grid"]["rows"].append("so101/pick-cube")
    file = tmp_path / "tasks.json"
    file.write_text(json.dumps(bench.document({})))

    rows = topic.published_rows(file, done.plan)
    assert set(rows) == {"reach", "so101/pick-cube"}
    assert rows["so101/pick-cube"].figures == {"success": other["so101/pick-cube: success"]}
    assert topic.published_rows(file, replace(done.plan, scenes=7)) == {}
    assert topic.published_rows(tmp_path / "none.json", done.plan) == {}

    again = Bench("tasks", True, tmp_path)
    rows["reach"] = replace(rows["reach"], figures={"success": Figure(0.5, "share")})
    topic.report(again, done.folder.parent, ["reach"], rows)
    assert again.settings["grid"]["rows"] == ["so101/pick-cube", "reach"]  # the table's order
    assert again.figures["so101/pick-cube: success"].value == 0.75
    assert again.figures["reach: success"] == bench.figures["reach: success"]  # as measured here
    topic.report(again, tmp_path / "nowhere", ["reach"], rows)
    assert again.figures["reach: success"].value == 0.5


def test_a_scripted_fault_runs_to_the_time_out_and_a_success_goes_on_for_a_while(tmp_path):
    contract, settings = load_contract(default_contract("reach")), RolloutSettings(limit_s=5.0)
    failed = by_script(contract, range(2), settings, tmp_path / "f", "reach", ("short",))
    good = by_script(contract, range(2), settings, tmp_path / "g", "reach")
    assert [o.success for o in failed + good] == [False, False, True, True]
    assert outcomes(tmp_path / "f") == failed
    frames = json.loads((tmp_path / "f" / "meta" / "info.json").read_text())["total_frames"]
    assert frames == 2 * settings.limit_s * contract.rate_hz


def test_a_judge_that_knows_failure_and_one_that_does_not():
    succeeds = np.array([True] * 5 + [False] * 5)
    knows = judgement([GOOD] * 5 + [BAD] * 5, succeeds)
    assert knows.auc.value == 1 and knows.crossed.value == 0 and knows.recognised.value == 1
    # A failure that goes on for longer is not counted beyond the longest success.
    late = judgement([GOOD] * 5 + [np.append(BAD, 0.99)] * 5, succeeds)
    assert late.auc.value == 1 and late.crossed.value == 1
    blind = judgement([GOOD] * 10, succeeds)
    assert blind.auc.value == 0.5 and blind.crossed.value == 1


def test_what_predicts_no_quantiles_is_read_by_the_level_that_it_holds():
    held = held_levels(np.repeat([0.2, 0.7, 0.1], 20), rate_hz=20.0)
    assert np.isnan(held[:9]).all() and np.isfinite(held[9:]).all()  # the window is not full yet
    assert np.nanmax(held) == pytest.approx(0.7, abs=0.01) and held[-1] < 0.15


def test_nothing_to_compare_is_unknown_and_no_figure():
    found = judgement([GOOD] * 5, np.ones(5, bool))
    assert found.auc.value is None and found.crossed.n == 0 and found.crossed.value is None


def test_sarm_reads_progress_off_features_and_sees_that_an_episode_stands_still():
    rng = np.random.default_rng(0)

    def seen(progress, labelled=True):
        shown = progress + rng.normal(0, 0.02, len(progress))
        features = np.stack([shown, rng.normal(size=len(shown))], 1).astype(np.float32)
        state = rng.normal(size=(len(shown), 3)).astype(np.float32)
        return Seen(features, state, progress.astype(np.float32) if labelled else None)

    demos = [seen(np.linspace(0, 1, 40)) for _ in range(6)]
    judge = Sarm(demos, SarmSettings(hidden=32, heads=2, layers=1, steps=150), rate_hz=20)
    success = judge.judge(seen(np.linspace(0, 1, 40), labelled=False))
    failure = judge.judge(seen(np.full(40, 0.4), labelled=False))
    assert success.shape == (40,) and np.corrcoef(success, np.linspace(0, 1, 40))[0, 1] > 0.9
    assert failure[20:].mean() < 0.5 < success[-5:].mean()


def test_rates_count_what_the_thresholds_do():
    def episode(held, stall, success):
        scores = {"stall": np.array(stall, float), "drawdown": np.zeros(len(held))}
        return CalibrationEpisode("e", np.array(held), scores, None, success)

    bound = Bound(0.05, 20, 20, 0.5)
    calibration = Calibration(
        bound,
        {"stall": bound, "drawdown": bound},
        None,
        SignalSettings(),
        Basis("r", "p", "c", ("front",), 2.0, 2.0),
        CalibrationSettings(verdict_s=0.5),
        4,
        2,
    )
    found = rates(
        [
            episode([0, 0, 0.9, 0.9], [0, 0, 0, 1], 2),  # right, its alarm is late enough
            episode([0, 0.9, 0.9, 0.9], [0, 0, 0, 0], 2),  # too early
            episode([0, 0, 0, 0], [0, 1, 1, 1], None),  # a failure with an alarm
            episode([0, 0.9, 0, 0], [0, 0, 1, 1], None),  # called complete before it
        ],
        calibration,
    )
    assert (found.false_completions.value, found.false_completions.n) == (0.5, 4)
    assert (found.detected.value, found.alarmed.value) == (1.0, 0.5)
    assert (found.false_alarms.value, found.false_alarms.n) == (0.5, 2)


@pytest.mark.parametrize("successes", [5, 12, 40, 200])
def test_the_smallest_alpha_that_the_successes_support_is_asked_for(successes):
    asked = supported(CalibrationSettings(beta=0.3), successes)
    check_counts(200, successes, asked)
    assert asked.alpha == 0.05 if successes == 200 else asked.alpha > 0.05


def test_a_task_that_is_not_there_is_named(tmp_path):
    bench = Bench("tasks", True, tmp_path, only=("raech",))
    with pytest.raises(ValueError, match="--only raech: task: expected one of pick_place, "):
        topic.run(bench)
