"""Faults on real processes, one trial each; `make faults` runs them in full and measures."""

import sys

import numpy as np
import pytest
import yaml
from conftest import ROOT, VX300S

from rewact_ros import strict_yaml
from rewact_ros.contract import Frame, FrameAssembler, Sample, Stale

sys.path.append(str(ROOT / "benchmarks"))
import faults

pytestmark = [pytest.mark.timeout(240), pytest.mark.real_time]
MS = 1_000_000


@pytest.fixture(scope="module")
def setup(tmp_path_factory, tiny_policy):
    """Age limits that a busy machine keeps; the published figures use the contract's own."""
    folder = tmp_path_factory.mktemp("faults")
    data = strict_yaml.load(VX300S)
    for key, value in data.items():
        if key.startswith("observation"):
            value["max_age_s"] = 0.5
    data.update(heartbeat_timeout_s=0.5, max_chunk_age_s=1.0)
    (folder / "vx300s.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (folder / "params.yaml").write_text("/**/hil:\n  ros__parameters:\n    lease_timeout_s: 1.0\n")
    return faults.Setup(str(folder / "vx300s.yaml"), str(folder / "params.yaml"), str(tiny_policy))


def test_a_stopped_policy_leaves_the_arm_held_until_a_person_resumes(setup):
    assert faults.policy_silenced(setup, 1)


def test_a_spoiled_camera_holds_the_arm_and_is_named(setup):
    assert set(faults.camera_faults(setup, 1)) == set(faults.CAMERA_FAULTS)


def test_a_killed_hil_sends_nothing_more_and_comes_back_disarmed(setup):
    [(_, disarmed)] = faults.hil_killed(setup, 1)
    assert disarmed


def test_a_killed_supervisor_loses_its_lease(setup):
    assert faults.supervisor_killed(setup, 1)


def test_unusable_joint_states_hold_the_arm_and_their_order_does_not_matter(setup):
    times, holds = faults.joint_faults(setup, 1)
    assert all(times.values()) and holds == 0


def test_an_arm_that_is_held_back_is_a_fault_and_gets_no_more_commands(setup):
    [(to_fault_ms, afterwards)] = faults.arm_held_back(setup, 1)
    assert to_fault_ms > 250 and afterwards == 0


def test_no_chunk_however_bad_brings_an_unsafe_command_onto_the_wire(setup):
    spoiled, unsafe = faults.bad_chunks_on_the_wire(setup, 2.0)
    assert spoiled > 5 and unsafe == 0


def test_no_fuzzed_chunk_brings_an_unsafe_command(setup):
    chunks, commands, unsafe = faults.fuzzed_chunks(10_000)
    assert chunks == 10_000 and commands == 500 and unsafe == 0


def test_a_jump_of_the_clock_stops_the_arm(setup):
    assert set(faults.clock_jumps(setup, 1)) == {"forth_10s", "back_10s", "sim_reset"}


def test_two_robots_in_two_namespaces_do_not_hear_each_other(setup):
    crossed, seen = faults.two_robots(setup, 1.0)
    assert seen > 50 and crossed == 0


class Camera:
    """An assembler fed at 20 Hz with joints and pictures; `value` is the brightness of front."""

    def __init__(self, contract):
        self.assembler, self.contract, self.ms = FrameAssembler(contract), contract, 0

    def step(self, joint, value):
        self.ms += 50
        state = np.full(len(self.contract.state_names), joint)
        self.assembler.put("observation.state[0]", Sample(self.ms * MS, self.ms / 1000, state))
        for name, brightness in (("wrist", self.ms % 256), ("front", value)):
            image = np.zeros((96, 96, 3), np.uint8)
            image[17, 23] = brightness  # one pixel is enough, on or off the grid of the quick look
            sample = Sample(self.ms * MS, self.ms / 1000, image)
            self.assembler.put(f"observation.images.{name}", sample)
        return self.assembler.assemble(self.ms / 1000, self.ms * MS)


def test_a_picture_that_stays_while_a_joint_moves_is_stale_within_a_second(vx300s):
    camera = Camera(vx300s)
    assert all(isinstance(camera.step(0.02 * k, k), Frame) for k in range(40))
    seen = [camera.step(0.8 + 0.02 * k, 39) for k in range(20)]
    assert isinstance(seen[-1], Stale)
    assert seen[-1].stream == "observation.images.front" and "waist moved" in seen[-1].reason
    assert isinstance(camera.step(1.2, 40), Frame), "a camera that is back is used again"


def test_a_still_picture_of_a_still_arm_is_no_fault_nor_is_the_start_of_a_motion(vx300s):
    camera = Camera(vx300s)
    assert all(isinstance(camera.step(0.01 * (k % 2), 0), Frame) for k in range(60))
    # The picture follows the joints with a delay of 0.2 s.
    moving = [camera.step(0.1 * k, max(0, k - 4)) for k in range(30)]
    assert all(isinstance(frame, Frame) for frame in moving)


def test_an_arm_that_came_to_rest_frees_a_frozen_camera_so_that_a_person_can_resume(vx300s):
    camera = Camera(vx300s)
    moving = [camera.step(0.05 * k, 7) for k in range(30)]
    assert isinstance(moving[-1], Stale)
    resting = [camera.step(1.5, 7) for _ in range(40)]
    assert isinstance(resting[-1], Frame)
