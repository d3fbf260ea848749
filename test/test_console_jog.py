"""A browser's jog before the real hil: it leads while it is held, and brakes when it is not."""

import asyncio
import threading
import time

import aiohttp
import numpy as np
import pytest
from conftest import VX300S
from rclpy.parameter import Parameter
from rclpy.utilities import get_default_context
from sensor_msgs.msg import JointState, Joy
from stage import Stage
from test_console import TOKEN, Page

from rewact_ros import strict_yaml
from rewact_ros.console.jog import LAPSE_S, HeldKeys, JogNode
from rewact_ros.contract import load_contract
from rewact_ros.control.modes import Mode
from rewact_ros.nodes.console import ConsoleNode
from rewact_ros.sim.task import DEFAULT_TASK
from rewact_ros.stack.keyboard_teleop import KeyboardTeleop
from rewact_ros.stack.node_thread import NodeThread

PERIOD_S = 0.04
# What a loaded test machine may take beside the lapse itself; `rewact bench console` measures it.
SLACK_S = 1.0


class Hand:
    """A page that leads and holds a pad, in a thread of its own."""

    def __init__(self, port):
        self.rates, self.holds, self.sends = {}, False, True
        self.states, self.end, self.abort = [], False, False
        self.ready, self.failure = threading.Event(), None
        self._port = port
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self.ready.wait(20), self.failure

    def _run(self):
        try:
            asyncio.run(self._play())
        except Exception as error:  # told by the test that waits
            self.failure = error
            raise

    async def _play(self):
        async with aiohttp.ClientSession() as client:
            page = await (await Page(self._port, client).log_in()).lead()
            async with page.stream() as socket:
                await socket.send_json({"session": page.secret})
                reader = asyncio.create_task(self._read(socket))
                status, answer = await page.post("/api/jog", {"on": True})
                assert status == 200, answer
                self.ready.set()
                number = 0
                while not self.end:
                    if self.sends:
                        word = {"n": number, "t": 1000 * time.monotonic(), "pressed": self.holds}
                        await socket.send_json({"jog": word | {"rates": self.rates}})
                        number += 1
                    await asyncio.sleep(PERIOD_S)
                reader.cancel()
                if self.abort:
                    socket._response.connection.transport.abort()  # as a killed browser's

    async def _read(self, socket):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self.states.append(message.json())

    def close(self, abort=False):
        self.abort, self.end = abort, True
        self._thread.join(20)


@pytest.fixture(scope="module")
def world(graph, tmp_path_factory):
    """A robot that follows hil, and a console."""
    folder = tmp_path_factory.mktemp("console")
    file = folder / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    data = strict_yaml.load(VX300S)
    keys = data["teleop"]["keyboard"]
    keys["max_age_s"] = keys["deadman"]["max_age_s"] = 1.0  # on a busy machine
    data["teleop"] = {"keyboard": keys}
    world = Stage(data, folder)
    world.leased = False
    given = {"contract": str(folder / "contract.yaml"), "port": 0, "token_file": str(file)}
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    console = NodeThread(
        lambda context: ConsoleNode(context=context, parameter_overrides=overrides)
    )
    console.start()
    world.port, world.console = console.node.port, console.node
    yield world
    console.node.close()
    console.close()
    world.close()


@pytest.fixture
def hand(world):
    """A page whose jog is on, before an armed robot."""
    world.arm()
    hand = Hand(world.port)
    world.wait(lambda: world.node.count_publishers("teleop/keyboard") == 1, "the jog's node")
    yield hand
    hand.close()
    world.wait(
        lambda: world.node.count_publishers("teleop/keyboard") == 0, "the jog's node is gone"
    )


def leads(world):
    return lambda: world.hil.path.modes.mode is Mode.HUMAN


def holds(world):
    return lambda: world.hil.path.modes.mode is Mode.HOLD


def begin(world, hand, **rates):
    """Hold a pad, as soon as hil has seen that nobody does."""
    hand.rates = rates
    world.press(lambda down: setattr(hand, "holds", bool(down)))


def test_a_hand_leads_while_it_holds_and_the_arm_moves_as_it_says(world, hand):
    before = world.measured.copy()
    begin(world, hand, x=1.0)
    world.wait(lambda: np.abs(world.measured - before)[:6].max() > 0.01, "motion")
    hand.holds = False
    world.wait(holds(world), "let go")
    assert abs(world.measured[0] - before[0]) < 0.3  # x is in the arm's plane, not its waist's turn
    world.wait(lambda: any((s.get("jog") or {}).get("on") for s in hand.states), "the page is told")


def test_words_that_stop_let_go(world, hand):
    begin(world, hand, z=1.0)
    silent_s = time.monotonic()
    hand.sends = False
    world.wait(holds(world), "nothing is heard")
    assert time.monotonic() - silent_s < LAPSE_S + SLACK_S


def test_a_page_that_is_gone_lets_go_and_its_jog_is_off(world, hand):
    begin(world, hand, y=-1.0)
    hand.close(abort=True)
    world.wait(holds(world), "the page is gone")


def test_another_page_that_takes_control_takes_the_hand_off(world, hand):
    begin(world, hand, x=-1.0)

    async def take():
        async with aiohttp.ClientSession() as client:
            await (await Page(world.port, client).log_in("Bo")).lead()

    thread = threading.Thread(target=asyncio.run, args=(take(),))
    thread.start()
    world.wait(holds(world), "another leads")
    thread.join(20)


def test_a_second_speaker_of_the_source_is_refused(world):
    other = world.node.create_publisher(JointState, "teleop/keyboard", 10)
    world.wait(lambda: world.console.count_publishers("teleop/keyboard") == 1, "the other")
    answers = []

    async def switch():
        async with aiohttp.ClientSession() as client:
            page = await (await Page(world.port, client).log_in()).lead()
            answers.append(await page.post("/api/jog", {"on": True}))

    thread = threading.Thread(target=asyncio.run, args=(switch(),))
    thread.start()
    thread.join(20)
    world.node.destroy_publisher(other)
    assert answers[0][0] == 409
    assert not world.console._jog.state()["on"]
    assert "speaks as 'keyboard' already" in answers[0][1]["error"]


def a_page(contract, source):
    keys = HeldKeys(source.jog.directions)
    node = JogNode(contract, source, DEFAULT_TASK, keys, "/deaf", get_default_context())
    word = {"n": 0, "t": 0.0, "pressed": True, "rates": {"x": 1.0}}
    return node, lambda n: keys.take(
        word | {"n": n, "t": 1000 * time.monotonic()}, time.monotonic()
    )


def a_terminal(contract, source):
    node = KeyboardTeleop(contract, source, "deaf", DEFAULT_TASK)

    def press(n):
        node.keys.press("i", time.monotonic())
        node.tick()

    return node, press


@pytest.mark.parametrize("hand", [a_page, a_terminal])
def test_a_hand_asks_for_nothing_before_the_robot_is_known(world, hand):
    contract = load_contract(VX300S, "/deaf")  # nobody tells of joints or modes there
    source, heard = contract.teleop_source("keyboard"), []
    node, press = hand(contract, source)
    world.executor.add_node(node)
    ear = world.node.create_subscription(
        Joy, f"/deaf/{source.deadman.topic}", lambda msg: heard.append(msg.buttons[0]), 10
    )
    for n in range(500):
        press(n)
        world.executor.spin_once(timeout_sec=0.01)
        if len(heard) > 30:
            break
    world.executor.remove_node(node)
    node.destroy_node()
    world.node.destroy_subscription(ear)
    assert len(heard) > 30
    assert not any(heard)  # hil would give it the arm, and stop for want of a target


def test_a_pad_that_is_held_before_hil_has_seen_it_up_leads_as_soon_as_it_has(world):
    world.arm()
    hand = Hand(world.port)
    hand.rates, hand.holds = {"x": 1.0}, True
    world.wait(leads(world), "a hand that was too soon")
    before = world.measured.copy()
    world.wait(lambda: np.abs(world.measured - before)[:6].max() > 0.005, "motion")
    hand.close()
    world.wait(holds(world), "let go")
    world.wait(lambda: world.node.count_publishers("teleop/keyboard") == 0, "no jog")
