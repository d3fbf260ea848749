"""The operator's console: who may do what, what a page is told, what its calls do to a robot."""

import asyncio
import json
import math
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import numpy as np
import pytest
from aiohttp.test_utils import make_mocked_request
from conftest import VX300S, free_port
from fake_robot import FakeRobot
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from rewact_ros.console.buttons import BUTTONS
from rewact_ros.console.guard import Guard
from rewact_ros.console.jog import LAPSE_S, HeldKeys
from rewact_ros.console.learn import Learning
from rewact_ros.console.sessions import FREE_TRIES, MOST_SESSIONS, NotAllowedError, Sessions
from rewact_ros.control.modes import Mode
from rewact_ros.msg import EpisodeEvent, PolicyUpdate, SupervisorStatus
from rewact_ros.nodes.console import ConsoleError, ConsoleNode, read_token
from rewact_ros.policy.updates import Update
from rewact_ros.ros import interfaces as names
from rewact_ros.ros.convert import to_ns
from rewact_ros.ros.images import image_message
from rewact_ros.ros.swap_client import SwapError
from rewact_ros.stack.node_thread import NodeThread, poll
from rewact_ros.stack.robot_status import RobotStatus, SupervisorState

TOKEN = "a-token-of-a-test"
HOSTILE = '<img src=x onerror="fetch(`/api/press/arm`)">\u202e\x1b[2J'


# Who may do what ----------------------------------------------------------------------------------


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


def test_one_leads_at_a_time_and_is_taken_from_openly():
    sessions = Sessions(TOKEN)
    one, other = sessions.log_in(TOKEN, "Ann"), sessions.log_in(TOKEN, "Bo\x1b[2J")
    with pytest.raises(NotAllowedError, match="nobody leads"):
        sessions.require_lead(one)
    sessions.take(one, force=False)
    with pytest.raises(NotAllowedError, match="Ann has control"):
        sessions.take(other, force=False)
    with pytest.raises(NotAllowedError, match="Ann has control"):
        sessions.require_lead(other)
    sessions.take(other, force=True)
    assert sessions.require_lead(other) is other
    with pytest.raises(NotAllowedError, match="has control"):
        sessions.require_lead(one)
    assert other.name.isprintable()
    sessions.leave(one)  # who does not lead gives nothing up
    assert sessions.leader is other
    sessions.log_out(other.secret)
    assert sessions.leader is None
    assert sessions.find(other.secret) is None


def test_wrong_tokens_wait_and_the_right_one_is_not_told_from_them_meanwhile():
    clock = Clock()
    sessions = Sessions(TOKEN, clock)
    for _ in range(FREE_TRIES):
        with pytest.raises(NotAllowedError, match="wrong token"):
            sessions.log_in(TOKEN + "x", "")
    with pytest.raises(NotAllowedError, match="too many"):
        sessions.log_in(TOKEN, "")
    clock.now_s += 10.0
    assert sessions.log_in(TOKEN, "").name == "operator"


def test_sessions_are_bounded_and_who_leads_is_never_forgotten():
    clock = Clock()
    sessions = Sessions(TOKEN, clock)
    leader = sessions.log_in(TOKEN, "leader")
    sessions.take(leader, force=False)
    for _ in range(2 * MOST_SESSIONS):
        clock.now_s += 1.0
        last = sessions.log_in(TOKEN, "")
    assert sessions.find(leader.secret) is leader
    assert sessions.find(last.secret) is last
    assert len(sessions._sessions) <= MOST_SESSIONS
    clock.now_s += 30 * 3600
    assert sessions.find(last.secret) is None


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8095", True),
        ("localhost:8095", True),
        ("[::1]:8095", True),
        ("robot1.local:8095", True),
        ("evil.example:8095", False),
        ("localhost.evil.example", False),
        ("", False),
        ("[", False),
        ("192.168.1.5:8095", False),
    ],
)
def test_only_requests_under_the_consoles_own_names_are_let_in(host, own):
    assert Guard("127.0.0.1", ("robot1.local",)).is_own(host) is own
    if host.startswith("192"):
        assert Guard("0.0.0.0").is_own(host)


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({}, True),
        ({"Origin": "http://127.0.0.1:8095"}, True),
        ({"Origin": "http://127.0.0.1:9000"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
    ],
)
def test_a_request_of_another_page_is_told_by_its_origin(headers, own):
    request = make_mocked_request("POST", "/", headers={"Host": "127.0.0.1:8095", **headers})
    assert Guard("127.0.0.1").comes_from_itself(request) is own


def test_a_token_file_that_others_may_read_is_refused(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o644)
    with pytest.raises(ConsoleError, match="chmod 600"):
        read_token(file)
    file.chmod(0o600)
    assert read_token(file) == TOKEN
    file.write_text("short")
    with pytest.raises(ConsoleError, match="12 characters"):
        read_token(file)
    with pytest.raises(ConsoleError, match="No such file"):
        read_token(tmp_path / "none")


def test_every_button_says_why_it_cannot_be_pressed_and_all_can_be_some_time():
    idle = SupervisorState("idle", "idle; ~/continue_batch goes on", "bound: withdrawn: light")
    moments = [
        RobotStatus(mode=mode.name, supervisor=idle, recorder="idle", bag="x") for mode in Mode
    ]
    moments.append(RobotStatus(mode="HOLD", remedy="call ~/confirm_reset", resume_required=True))
    for phase in ("help", "paused", "running"):
        state = SupervisorState(phase, phase, "")
        moments.append(RobotStatus(supervisor=state, recorder="records", recording=True))
    for button in BUTTONS:
        words = [button.why_not(moment) for moment in moments]
        assert "" in words, button.name
        assert any(words), button.name
        assert button.why_not(RobotStatus()), f"{button.name}: nobody is heard"


# A hand on the page -------------------------------------------------------------------------------


def word(n, t_s, pressed=True, **rates):
    return {"n": n, "t": 1000.0 * t_s, "pressed": pressed, "rates": rates}


def held(keys, now_s):
    given = keys.given(now_s)
    return given.pressed and given.rates.tolist()


def test_what_is_held_lapses_and_a_release_counts_at_once():
    keys = HeldKeys(("x", "y"))
    assert held(keys, 0.0) is False
    keys.take(word(0, 5.0, x=1.0), 100.0)
    assert held(keys, 99.99 + LAPSE_S) == [1.0, 0.0]
    assert held(keys, 100.01 + LAPSE_S) is False
    keys.take(word(1, 5.2, y=-7), 100.2)
    assert held(keys, 100.2) == [0.0, -1.0]
    keys.take(word(2, 5.21, pressed=False), 100.21)
    assert held(keys, 100.21) is False


def test_a_word_that_comes_late_or_out_of_turn_holds_nothing():
    keys = HeldKeys(("x",))
    keys.take(word(0, 5.0, x=1.0), 100.0)
    keys.take(word(2, 5.1, pressed=False), 100.1)
    keys.take(word(1, 5.05, x=1.0), 100.12)  # overtaken by the release
    assert held(keys, 100.12) is False
    keys.take(word(3, 5.2, x=1.0), 101.0)  # the network gives out what it kept back
    assert held(keys, 101.0) is False
    keys.take(word(4, 6.05, x=1.0), 101.05)
    assert held(keys, 101.05) == [1.0]
    keys.begin()  # another page counts anew, by another clock
    keys.take(word(0, 900.0, x=1.0), 102.0)
    assert held(keys, 102.0) == [1.0]


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"n": 1},
        word("one", 1.0),
        word(1, 1.0, z=1.0),
        word(1, 1.0, x="1;"),
        word(1, 1.0, x=math.nan),
        word(1, math.inf, x=1.0),
        {**word(1, 1.0), "rates": [["x", 1], 3]},
        {**word(1, 1.0, x=1.0), "pressed": "yes"},
        word(10**400, 1.0, x=1.0) | {"t": 10**400},
    ],
)
def test_a_malformed_word_holds_nothing(message):
    keys = HeldKeys(("x",))
    keys.take(word(0, 1.0, x=1.0), 1.0)
    keys.take(message, 1.0 + LAPSE_S + 0.01)
    assert held(keys, 1.0 + LAPSE_S + 0.01) is False


# A console before a robot that answers as hil does ------------------------------------------------


class Robot(FakeRobot):
    """One whose supervisor and camera speak, too."""

    def __init__(self, context):
        super().__init__(context)
        self.text = "idle"
        self._supervisor = self.create_publisher(
            SupervisorStatus, names.SUPERVISOR_STATUS, names.LATCHED
        )
        self.events = self.create_publisher(EpisodeEvent, names.EPISODE_EVENT, names.EVENTS)
        self.front = self.create_publisher(Image, "front/image_raw", names.SENSOR_OUT)
        self.size = (96, 96)
        self.updates = []
        self.create_subscription(
            PolicyUpdate, names.POLICY_UPDATE, self.updates.append, names.EVENTS
        )
        self.create_timer(0.05, self._tell)

    def _tell(self):
        self._supervisor.publish(SupervisorStatus(phase="idle", text=self.text))
        now = self.get_clock().now().to_msg()
        self.front.publish(image_message(np.zeros((*self.size, 3), np.uint8), now, "front"))


def learned(folder):
    """A learning run's folder with a curve, a test and two versions, of which one is broken."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder / "tensorboard") as board:
        for step in range(5):
            board.add_scalar("train/loss", 1.0 / (1 + step), step)
    policies = folder / "policies"
    whole = policies / "whole"
    whole.mkdir(parents=True)
    (whole / "model.safetensors").write_bytes(b"weights")
    (whole / "contract.json").write_text('{"hash": "abc"}')
    (whole / "learned.json").write_text('{"updates": 7}')
    (policies / "broken").mkdir()
    (policies / ".partial").mkdir()
    (policies / "best").symlink_to("whole")
    test = {"robot_steps": 9, "validation_success": 0.9, "validation_replaces": HOSTILE}
    (folder / "episodes.jsonl").write_text(f'{{"episode": 1}}\n{json.dumps(test)}\n{{"v')
    (folder / "best.json").write_text('{"success": 0.9, "version": "x", "scores": [1.0]}')
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return learned(tmp_path_factory.mktemp("learned"))


@pytest.fixture(scope="module")
def house(graph, tmp_path_factory, run):
    """A robot and a console, each in a thread of its own."""
    token = tmp_path_factory.mktemp("console") / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    given = {"contract": str(VX300S), "port": 0, "token_file": str(token), "run": str(run)}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    robot = NodeThread(Robot)
    console = NodeThread(
        lambda context: ConsoleNode(context=context, parameter_overrides=overrides)
    )
    robot.start()
    console.start()
    known = [console.node.robot._clients["disarm"], console.node.robot._tasks]
    ready = (known[0].service_is_ready, known[1].server_is_ready)
    assert poll(lambda: all(is_ready() for is_ready in ready), 30.0)
    yield robot.node, console.node
    console.node.close()
    console.close()
    robot.close()


class Page:
    """A browser's side, without a browser."""

    def __init__(self, port, client):
        self.base, self.client, self.secret = f"http://127.0.0.1:{port}", client, ""

    async def post(self, path, given=None, **headers):
        if self.secret:
            headers["Authorization"] = f"Bearer {self.secret}"
        async with self.client.post(self.base + path, json=given or {}, headers=headers) as answer:
            return answer.status, await answer.json()

    async def log_in(self, name="Ann"):
        self.secret = (await self.post("/api/login", {"token": TOKEN, "name": name}))[1]["session"]
        return self

    async def lead(self):
        assert (await self.post("/api/control", {"take": True, "force": True}))[0] == 200
        return self

    def stream(self, **headers):
        return self.client.ws_connect(self.base + "/stream", headers=headers)


def at(house, act):
    """Run `act(page, robot)` against the console."""
    robot, console = house

    async def run():
        async with aiohttp.ClientSession() as client:
            return await act(Page(console.port, client), robot)

    robot.calls.clear()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, run()).result(60)


async def states(socket, until, timeout_s=20.0):
    """Read the stream until a state is as wanted; returns it."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        message = await socket.receive(timeout=timeout_s)
        if message.type is aiohttp.WSMsgType.TEXT:
            state = json.loads(message.data)
            if "robot" in state and until(state):
                return state
    raise AssertionError("no such state")


CALLS = [
    ("/api/control", {"take": True, "force": True}),
    *((f"/api/press/{button.name}", {}) for button in BUTTONS),
    ("/api/task", {"text": "go"}),
    ("/api/cancel", {}),
    ("/api/jog", {"on": True}),
    ("/api/version", {"name": "x"}),
    ("/api/version", {"rollback": True}),
    ("/api/logout", {}),
]


def test_every_call_there_is_is_tried_below(house):
    _, node = house
    app = node.console.app()
    routes = {r.canonical for r in app.router.resources() if {x.method for x in r} & {"POST"}}
    tried = {re.sub("/press/.*", "/press/{button}", path) for path, _ in CALLS}
    assert {re.sub(":[^}]*", "", route) for route in routes} == tried | {"/api/login"}


@pytest.mark.parametrize("secret", ["", "made-up", TOKEN])
def test_without_a_session_nothing_is_called(house, secret):
    async def act(page, robot):
        page.secret = secret
        return [await page.post(path, given) for path, given in CALLS]

    for status, answer in at(house, act):
        assert status == 403
        assert "token" in answer["error"]
    assert house[0].calls == []


def test_who_has_the_token_and_does_not_lead_may_stop_the_arm_and_no_more(house):
    async def act(page, robot):
        await page.log_in()
        ann = await Page(page.base.rpartition(":")[2], page.client).log_in("Leader")
        await ann.lead()
        refused = [await page.post(path, given) for path, given in CALLS[1:-1]]
        await ann.post("/api/control", {"take": False})
        return refused

    answers = at(house, act)
    for (path, _), (status, answer) in zip(CALLS[1:-1], answers, strict=True):
        if path.endswith("/disarm"):
            assert status == 200
        else:
            assert status == 403, path
            assert "Leader has control" in answer["error"]
    assert house[0].calls == ["disarm"]


def test_the_leader_arms_and_the_page_is_told(house):
    async def act(page, robot):
        await (await page.log_in()).lead()
        async with page.stream() as socket:
            await socket.send_json({"session": page.secret})
            before = await states(socket, lambda s: s["you"]["leads"])
            armed = await page.post("/api/press/arm")
            after = await states(socket, lambda s: s["robot"]["mode"] == "HOLD")
            robot.serves = False
            refused = await page.post("/api/press/disarm")
            robot.serves = True
            await page.post("/api/press/disarm")
            return before, armed, after, refused

    before, armed, after, refused = at(house, act)
    assert before["buttons"]["arm"] == ""
    assert before["buttons"]["release"] == "no person leads"
    assert before["robot"]["reward"] == 0.75
    assert armed == (200, {"message": "as asked"})
    assert after["buttons"]["arm"] == "armed already"
    assert refused == (409, {"error": "Disarm refused: broken"})


def test_a_service_that_nobody_offers_is_named(house):
    async def act(page, robot):
        await (await page.log_in()).lead()
        return await page.post("/api/press/success")

    status, answer = at(house, act)
    assert status == 409
    assert answer["error"] == "supervisor/success: nobody offers it now"


def test_a_task_runs_and_its_end_is_told(house):
    async def act(page, robot):
        await (await page.log_in()).lead()
        async with page.stream() as socket:
            begun = await page.post("/api/task", {"text": "stack the cups", "episodes": 2})
            seen = []

            def over(state):
                seen.extend(state["events"])
                return any(event["event"] == "task over" for event in state["events"])

            await states(socket, over)
            robot.accepts = False
            refused = await page.post("/api/task", {"text": "again"})
            robot.accepts = True
            return begun, seen, refused

    begun, seen, refused = at(house, act)
    assert begun == (200, {"message": "the task runs"})
    assert any("SUCCESS" in event["detail"] for event in seen)
    assert refused[0] == 409
    assert "task refused" in refused[1]["error"]


@pytest.mark.parametrize(
    "given",
    [
        {"text": ""},
        {"text": "x\ny"},
        {"text": 3},
        {"text": "go", "episodes": 0},
        {"text": "go", "episodes": True},
        {"text": "go", "timeout": -1},
        {"text": "go", "timeout": "long"},
        {"text": "go", "timeout": float("nan")},
    ],
)
def test_a_task_that_makes_no_sense_is_refused_by_key(house, given):
    async def act(page, robot):
        await (await page.log_in()).lead()
        return await page.post("/api/task", given)

    status, answer = at(house, act)
    assert status == 400
    assert answer["error"].split(":")[0] in given


def test_requests_of_other_pages_and_under_other_names_are_refused(house):
    async def act(page, robot):
        await (await page.log_in()).lead()
        found = [await page.post("/api/press/arm", Origin="https://evil.example")]
        found.append(await page.post("/api/press/arm", Host="evil.example"))
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await page.stream(Origin="https://evil.example")
        async with page.client.get(page.base, headers={"Host": "evil.example"}) as answer:
            found.append((answer.status, await answer.json()))
        async with page.client.get(page.base + "/page/..%2f..%2fguard.py") as answer:
            assert answer.status == 404
        async with page.client.get(page.base) as answer:
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        return found

    assert [status for status, _ in at(house, act)] == [403, 403, 403]
    assert house[0].calls == []


def test_hostile_texts_reach_the_page_as_printable_texts_and_garbage_changes_nothing(house):
    async def act(page, robot):
        robot.text = HOSTILE
        robot.events.publish(EpisodeEvent(task=HOSTILE, detail=HOSTILE, event=77, outcome=9))
        async with page.stream() as socket:
            for garbage in ("", "[", "[]", "3", '{"session": 3, "shown": [], "jog": 1}', "[" * 900):
                await socket.send_str(garbage)
            await socket.send_bytes(b"\x00")
            seen = []

            def told(state):
                seen.extend(state["events"])
                return state["episode"] and "onerror" in state["episode"]["text"] and seen

            state = await states(socket, told)
        robot.text = "idle"
        return state["episode"]["text"], seen[-1]

    text, event = at(house, act)
    assert text.isprintable()
    assert event["detail"].isprintable()
    assert event["event"] == "event 77"
    assert event["outcome"] == ""


def test_pictures_come_as_the_page_takes_them_and_a_wrong_one_is_named(house):
    async def act(page, robot):
        async with page.stream() as socket:
            got = []
            while len(got) < 2:
                message = await socket.receive(timeout=20)
                if message.type is aiohttp.WSMsgType.BINARY:
                    got.append(message.data)
                    await asyncio.sleep(0.2)  # nothing more before it was shown
                    await socket.send_json({"shown": "front"})
            robot.size = (48, 48)
            while True:
                message = await socket.receive(timeout=20)
                if message.type is aiohttp.WSMsgType.TEXT:
                    told = json.loads(message.data)
                    if "trouble" in told:
                        break
                else:
                    await socket.send_json({"shown": "front"})
        robot.size = (96, 96)
        return got, told

    got, told = at(house, act)
    assert all(data[0] == 0 and data[1:3] == b"\xff\xd8" for data in got)
    assert told["camera"] == "front"
    assert "96" in told["trouble"]


def test_nobody_looks_and_no_camera_is_subscribed(house):
    robot, _ = house
    deadline_s = time.monotonic() + 10.0
    while robot.count_subscribers("front/image_raw") and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert robot.count_subscribers("front/image_raw") == 0


def test_a_port_that_is_taken_is_told(house):
    _, console = house
    with pytest.raises(ConsoleError, match="choose another host or port"):
        ConsoleNode(parameter_overrides=[Parameter("port", value=console.port)])


# What is learned ----------------------------------------------------------------------------------


def test_a_run_shows_its_curves_versions_and_tests(run):
    learning = Learning(run, None)
    record = learning.record()
    assert record["curves"] == ["train/loss"]
    points = learning.curves()["train/loss"]
    assert [point[1] for point in points] == [0, 1, 2, 3, 4]
    assert points[4][2] == pytest.approx(0.2)
    found = {version["name"]: version for version in record["versions"]}
    assert set(found) == {"whole", "broken"}
    assert found["whole"]["updates"] == 7
    assert found["whole"]["marks"] == ["best"]
    assert found["whole"]["robot"] == "abc"
    assert "model.safetensors" in found["broken"]["trouble"]
    assert [test["validation_success"] for test in record["tests"]] == [0.9]
    assert record["best"] == {"success": 0.9, "version": "x"}
    update = learning.update("whole")
    assert update.robot == "abc"
    assert len(update.sha256) == 64


@pytest.mark.parametrize("name", ["", "..", "../run/policies/whole", "best", ".partial", "/etc"])
def test_only_versions_of_the_listing_are_offered(run, name):
    with pytest.raises(SwapError, match="no version"):
        Learning(run, None).update(name)


def test_without_a_run_nothing_is_shown():
    empty = {"run": "", "curves": [], "versions": [], "best": {}, "tests": []}
    assert Learning(None, None).record() == empty


def test_a_version_is_adopted_and_what_the_policy_says_is_told(house):
    async def act(page, robot):
        await (await page.log_in()).lead()
        robot.version = ""
        await asyncio.sleep(0.2)
        found = [await page.post("/api/version", {"name": "whole"})]
        robot.version, robot.updates[:] = "before", []
        await asyncio.sleep(0.2)
        found.append(await page.post("/api/version", {"name": "../whole"}))
        asked = asyncio.create_task(page.post("/api/version", {"name": "whole"}))
        while not robot.updates:
            await asyncio.sleep(0.02)
        robot.version = robot.updates[0].version
        found.append(await asked)
        update = robot.updates[0]
        robot.updates.clear()
        asked = asyncio.create_task(page.post("/api/version", {"rollback": True}))
        while not robot.updates:
            await asyncio.sleep(0.02)
        label = Update(to_ns(robot.updates[0].header.stamp), rollback=True).label
        robot.said = f"{label}: refused: {HOSTILE}"
        found.append(await asked)
        robot.version = robot.said = ""
        async with page.client.get(page.base + "/api/learn") as answer:
            return found, update, await answer.json()

    found, update, told = at(house, act)
    assert found[0] == (409, {"error": "no policy is heard"})
    assert found[1][0] == 409 and "no version" in found[1][1]["error"]
    assert found[2] == (200, {"message": f"version {update.version} runs"})
    assert update.path.endswith("/policies/whole") and len(update.sha256) == 64
    assert found[3][0] == 409 and "refused" in found[3][1]["error"]
    assert {version["name"] for version in told["versions"]} == {"whole", "broken"}


def test_an_error_of_our_own_ends_the_stream_and_is_told(house, monkeypatch):
    _, console = house
    monkeypatch.setattr(console.robot, "since", None)

    async def act(page, robot):
        async with page.stream() as socket:
            while (await socket.receive(timeout=20)).type is aiohttp.WSMsgType.TEXT:
                pass
            return socket.closed

    assert at(house, act)
    assert poll(lambda: console.refusals.is_fault, 10.0)


def test_what_the_command_line_leaves_open_is_the_parameter_files(house, tmp_path):
    file, token = tmp_path / "params.yaml", tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    values = f"{{port: 1, token_file: {token}}}"  # a port that the command line replaces
    file.write_text(f"console:\n  ros__parameters: {values}\n")
    command = [sys.executable, "-m", "rewact_ros.cli", "console", "--contract", "none",
               "--port", str(free_port()), "--params-file", str(file)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
        finally:
            process.terminate()
            process.communicate(timeout=30)
    # With the file's token there is none in the address.
    assert re.search(rf"http://localhost:{command[-3]}/$", line.strip()), line
