"""An environment of another Python, behind a local socket: served, driven, and failing aloud."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import save
from test_gym_rollout import policy_for

from rewact_ros.learning.evaluation.env_server import EnvError, receive, send
from rewact_ros.learning.evaluation.gym_env import make_env
from rewact_ros.learning.evaluation.gym_rollout import evaluate_env
from rewact_ros.learning.evaluation.settings import EnvSettings, as_mapping
from rewact_ros.policy.checkpoint import load_policy

SERVER = ROOT / "rewact_ros" / "learning" / "evaluation" / "env_server.py"
PAIRS = [
    "observation.images.head=rgb_head",
    "observation.images.wrist=rgb_right_wrist",
    "observation.state=proprioception[0:3]+proprioception_grippers",
]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    cameras = {"observation.images.head": 32, "observation.images.wrist": 32}
    return policy_for(tmp_path_factory.mktemp("policy") / "p", cameras, state=5, actions=5)


@pytest.fixture
def place():
    """Path of a socket, short enough for one."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"{folder}/env.sock"


@contextlib.contextmanager
def serving(env: str, *more: str):
    """A server in a process of its own, told of nothing but the fixture's folder."""
    known = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, str(SERVER), env, *more],
        cwd=ROOT / "test",
        env=known,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = process.stdout.readline()
        yield process, said.rpartition(" at ")[2].strip()
    finally:
        process.kill()
        process.communicate(timeout=10)


SETTINGS = EnvSettings(12, success_key="task_success", mapping=as_mapping(PAIRS))


def test_rewact_eval_drives_what_another_python_serves(policy, place, tmp_path):
    with serving("bigym_like:make", "--socket", place, "--rate-hz", "20", "--once") as (server, _):
        command = ["eval", "--policy", str(policy), "--env", f"served:{place}", "--episodes", "2"]
        command += ["--success-key", "task_success", "--max-steps", "12", "--out", str(tmp_path)]
        command += [word for pair in PAIRS for word in ("--map", pair)]
        done = subprocess.run(
            [sys.executable, "-c", "from rewact_ros.cli import main; main()", *command],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        assert server.wait(10) == 0 and not Path(place).exists()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["success"]["value"] == 1.0 and summary["success"]["n"] == 2
    assert summary["seeded"] and summary["settings"]["rate_hz"] == 20
    assert [episode["steps"] for episode in summary["episodes"]] == [4, 4]


def test_what_is_served_is_what_is_there(place):
    sys.path.insert(0, str(ROOT / "test"))
    there = make_env("bigym_like:make").env
    with serving("bigym_like:make", "--socket", place):
        env = make_env(f"served:{place}").env
        assert env.action_space == there.action_space and env.render_mode == "rgb_array"
        seen, info = env.reset(seed=7)
        expected, _ = there.reset(seed=7)
        np.testing.assert_array_equal(seen["proprioception"], expected["proprioception"])
        assert seen["rgb_head"].shape == (32, 32, 3) and (seen["rgb_head"][..., 0] == 200).all()
        action = np.linspace(-1, 1, 5, dtype=np.float32)
        for _ in range(4):
            observation, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated) == (1.0, True, False)
        assert info == {"others": "", "target": None, "task_success": 1.0}
        np.testing.assert_array_equal(env.render(), observation["rgb_head"])
        env.close()


def test_a_server_outlives_its_clients_and_a_signal_ends_it(place):
    with serving("bigym_like:make", "--socket", place) as (server, _):
        for _ in range(2):
            env = make_env(f"served:{place}").env
            env.reset(seed=0)
            env.close()
        assert os.stat(place).st_mode & 0o077 == 0  # this user's alone
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0 and not Path(place).exists()


def test_a_socket_left_over_is_taken_and_a_living_server_s_is_not(place):
    command = ("bigym_like:make", "--socket", place)
    with serving(*command), serving(*command) as (second, _):
        assert second.wait(10) == 2
        assert "another server listens there" in second.stderr.read()
    assert Path(place).exists()  # the first was killed
    with serving("bigym_like:make", "--socket", place):
        make_env(f"served:{place}").env.close()


def test_a_port_is_of_this_machine_alone():
    with serving("bigym_like:make", "--port", "0") as (_, address):
        assert address.startswith("127.0.0.1:")
        make_env(f"served:{address}").env.close()
    with pytest.raises(EnvError, match="no server there"):
        make_env(f"served:{address}")
    for other in ("10.0.0.1:5000", "example.org:80", "127.0.0.1:0", "localhost:x"):
        with pytest.raises(EnvError, match=r"expected a port of 127\.0\.0\.1"):
            make_env(f"served:{other}")


def test_a_server_that_is_not_there_is_named_with_its_start(place):
    with pytest.raises(EnvError, match=r"env\.sock: no server there .*env_server\.py ENV --socket"):
        make_env(f"served:{place}")
    with pytest.raises(EnvError, match="timeout_s: expected seconds above 0"):
        make_env(f"served:{place}?timeout_s=0")
    with pytest.raises(EnvError, match="expected served:PATH"):
        make_env("served:")


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("dies", "step 3: the server has gone"),
        ("raises", "step 3: the environment failed: RuntimeError: Physics is unstable"),
        ("hangs", r"step 3: no answer within 3 s; raise it by \?timeout_s"),
        ("old", "reset: the environment failed: TypeError: reset: expected observation and info"),
        ("discrete", r"hello: .*expected a Box, got Discrete\(3\)"),
        ("silent", "never said 'task_success'; its info holds others, target"),
    ],
)
def test_an_environment_that_fails_is_named_and_nothing_hangs(policy, place, fault, says):
    with serving(f"bigym_like:make?fault={fault}", "--socket", place):
        begin_s = time.monotonic()
        with pytest.raises(EnvError, match=says):
            spec = f"served:{place}?timeout_s=3"
            evaluate_env(load_policy(policy, "cpu"), spec, 1, 0, SETTINGS)
        assert time.monotonic() - begin_s < 60


def test_an_environment_without_seed_or_cameras_is_told(policy, place):
    loaded = load_policy(policy, "cpu")
    with serving("bigym_like:make?fault=seedless", "--socket", place):
        assert not evaluate_env(loaded, f"served:{place}", 1, 0, SETTINGS)["seeded"]
    says = "images.head: the environment has no rgb_head; it gives proprioception"
    with (
        serving("bigym_like:make?cameras=[]", "--socket", place),
        pytest.raises(EnvError, match=says),
    ):
        evaluate_env(loaded, f"served:{place}", 1, 0, SETTINGS)


@pytest.mark.parametrize("env", ["bigym_like:nothing", "no_such_module:make", "json:loads?s=1"])
def test_what_cannot_be_served_is_named_at_its_start(place, env):
    with serving(env, "--socket", place) as (server, _):
        assert server.wait(10) == 2
        assert server.stderr.read().startswith(f"env_server: {env}: ")
    assert not Path(place).exists()


def framed(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def saying(message, **arrays) -> bytes:
    text = np.frombuffer(json.dumps(message).encode(), np.uint8)
    return framed(save({"__message__": text, **arrays}))


HELLO = {"protocol": 1, "rate_hz": 0, "max_steps": None, "render_mode": None}
LIMITS = {"low": np.zeros(2, np.float32), "high": np.ones(2, np.float32)}


@contextlib.contextmanager
def answering(place: str, *answers: bytes, drip_s: float = 0.0):
    """A server that says what it is told to, byte by byte where `drip_s` says so."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(place)
        listener.listen(1)

        def run():
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                peer, _ = listener.accept()
                with peer:
                    for answer in answers:
                        receive(peer, 1 << 20, 10)
                        for k in range(len(answer)) if drip_s else ():
                            peer.sendall(answer[k : k + 1])
                            time.sleep(drip_s)
                        if not drip_s:
                            peer.sendall(answer)
                    peer.settimeout(10)
                    peer.recv(1)  # until the client leaves

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (framed(b"x" * 40), "hello: a frame that is none"),
        (framed(save({"other": np.zeros(1)})), "hello: a frame that is none: KeyError"),
        (saying([1]), r"a message that is no object: \[1\]"),
        (struct.pack("<Q", 1 << 40), "a frame of 1099511627776 bytes, expected at most 268435456"),
        (saying({"protocol": 2}), "expected protocol 1, got 2"),
        (saying(HELLO), "a greeting that is none .KeyError: 'low'"),
        (saying(HELLO, low=np.zeros(2), high=np.ones(3)), "a greeting that is none"),
        (saying(HELLO | {"rate_hz": "fast"}, **LIMITS), "a greeting that is none .ValueError"),
    ],
)
def test_frames_that_are_none_are_refused(place, answer, says):
    with answering(place, answer), pytest.raises(EnvError, match=says):
        make_env(f"served:{place}")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (saying({"info": 3}, a=np.zeros(1)), "info: expected an object, got int"),
        (saying({"info": {}}), "an observation without numbers"),
        (saying({"error": "odd"}), "reset: the environment failed: odd"),
    ],
)
def test_answers_that_say_too_little_are_refused(place, answer, says):
    with answering(place, saying(HELLO, **LIMITS), answer):
        env = make_env(f"served:{place}").env
        with pytest.raises(EnvError, match=says):
            env.reset(seed=0)
        env.close()


def test_a_frame_that_drips_ends_at_the_time_out(place):
    says = r"hello: no answer within 0\.5 s"
    with (
        answering(place, saying(HELLO, **LIMITS), drip_s=0.1),
        pytest.raises(EnvError, match=says),
    ):
        make_env(f"served:{place}?timeout_s=0.5")


def test_a_message_runs_and_imports_nothing_and_a_bad_client_is_dropped(place):
    with serving("bigym_like:make", "--socket", place) as (server, _):
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as peer:
            peer.connect(place)
            for asked in ("os:system", "__class__", "_reset", 3, None):
                send(peer, {"do": asked, "env": "antigravity:x"}, {})
                said, _ = receive(peer, 1 << 20, 10)
                assert said["error"].startswith("unknown request")
            send(peer, {"do": "reset", "seed": "x"}, {})
            assert "ValueError" in receive(peer, 1 << 20, 10)[0]["error"]
            peer.sendall(struct.pack("<Q", 1 << 40))
            with pytest.raises(EOFError):
                receive(peer, 1 << 20, 10)
        make_env(f"served:{place}").env.close()  # the next client is served
        server.terminate()
        assert server.wait(10) == 0
        assert "client dropped: FrameError: a frame of 1099511627776" in server.stderr.read()
