"""Bench topic `console`: what the operator's page costs a robot, and how soon a hand lets go.

Real processes hil and console before a real Chromium. `page`: two cameras of 480 x 640 at 10 per
second; hil's command intervals alone, with the console and a page of another computer (a program
that takes all that is sent), and with a browser on this machine too. `jog`: a key that is held, and
five ways in which the hand is gone; a finger and a gamepad. `hostile`: what others write, in every
text that is shown. `killed`: console and browser under a policy that drives. `session`: a whole
session by mouse alone. `marks`: an episode's keypoints
through the page, beside a file written by hand.
"""

import asyncio
import json
import math
import os
import resource
import signal
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from console_browser import Chromium, Wire, console_parameters, free_port, listens, wait_for_port
from console_browser import playwright_is_installed as is_installed
from console_hostile import hostile
from console_marks import marks
from console_session import session
from path_turns import source

from rewact_ros import strict_yaml
from rewact_ros.bench.figures import Bench
from rewact_ros.msg import ControlStatus
from rewact_ros.stack.bringup import default_contract
from rewact_ros.stack.rig_stack import Robot, Setup, cpu_seconds, memory_mb, robot

PARTS = True
ROUNDS, TURN_S, SETTLED_S = 3, 20.0, 4.0
TRIALS = 40  # of each way in which a hand is gone
ALONE, ELSEWHERE, HERE = "alone", "console, page elsewhere", "console, browser here"
# What hil has for a computer that does other things, too (docs/timing.md).
FIRST, PRIORITY = "console, browser here, hil's priority 50", 50
KEY = "u"  # z, up
MOVES_RAD, CRUISE_S = 1e-4, 0.5
LASTING = 5  # commands that are slow in a row
KEY_WAY = "key released"
WAYS = (KEY_WAY, "focus lost", "browser killed", "console killed", "packets dropped")
# Other hands than the keyboard's, and fewer trials of each: what is behind them is the same.
HANDS = ("finger lifted", "shoulder button released", "gamepad unplugged")
HAND_TRIALS = 10
KILLS = 20
# A console that dies six times in a minute is left out: its kills are so far apart.
SPACE_S, KILLED_S = 13.0, 6.5
# Pictures that the page shows, counted in the page.
COUNT = """window.counted = 0;
for (const image of document.querySelectorAll("#cameras img"))
    image.addEventListener("load", () => { window.counted++; });"""
UP = [0.0, 0.0, 0.0, -1.0]  # sticks; the right one pushed away


def run(bench: Bench) -> None:
    """`--quick`: one short turn of each, and two trials. A way to let go is a part, too."""
    parts = {
        "page": page,
        "jog": jog,
        "hostile": in_a_browser(hostile),
        "killed": killed,
        "session": session,
        "marks": marks,
    }
    known = parts | {way: partial(jog, ways=(way,)) for way in (*WAYS, *HANDS)}
    chosen = bench.only or tuple(parts)
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"console: no part '{unknown[0]}'; known: {', '.join(known)}")
    if not is_installed():
        return
    bench.keep_parts(())
    for name in chosen:
        known[name](bench)


def in_a_browser(measure: Callable[..., None]) -> Callable[[Bench], None]:
    """Give a part a robot, its console and a browser."""

    def act(bench: Bench) -> None:
        with ExitStack() as stack:
            port, rig = _robot(stack, default_contract())
            measure(bench, rig, _chromium(stack, port))

    return act


# What it costs --------------------------------------------------------------------------------


def page(bench: Bench) -> None:
    """CPU, ages and the command path's intervals, in turns."""
    rounds, seconds = (1, 3.0) if bench.quick else (ROUNDS, TURN_S)
    bench.settings["page"] = {"rounds": rounds, "turn_s": seconds, "cameras": "2 x 480x640 at 10/s"}
    found: dict[str, list[dict[str, float]]] = {ALONE: [], ELSEWHERE: [], HERE: []}
    if _may_be_first():
        found[FIRST] = []
    ages: list[float] = []
    for _ in range(rounds):
        for name, turns in found.items():
            turns.append(_turn(name, seconds, ages))
    for name, turns in found.items():
        for figure, unit, goal in (
            ("CPU of the console", "% of a core", "≤ 15"),
            ("memory of the console", "MB", ""),
            ("pictures", "/s", "≥ 18"),
            ("command interval p99", "ms", ""),
        ):
            values = [turn[figure] for turn in turns if figure in turn]
            if values:
                more = {"n": len(values), "low": min(values), "high": max(values)}
                goal = goal if name == HERE or figure == "pictures" else ""
                bench.add(f"{name}: {figure}", statistics.median(values), unit, goal=goal, **more)
    for name in tuple(found)[1:]:
        ratios = [
            one["command interval p99"] / alone["command interval p99"]
            for one, alone in zip(found[name], found[ALONE], strict=True)
        ]
        more = {"n": len(ratios), "low": min(ratios), "high": max(ratios)}
        bench.add(
            f"{name}: command interval p99 over alone",
            statistics.median(ratios),
            "ratio",
            goal="≤ 1.1",
            **more,
        )
    if ages:
        for share in (50, 95):
            goal = "≤ 200" if share == 95 else ""
            value = float(np.percentile(ages, share))
            bench.add(f"status age at the browser p{share}", value, "ms", goal=goal, n=len(ages))


def _turn(name: str, seconds: float, ages: list[float]) -> dict[str, float]:
    with ExitStack() as stack:
        contract = stack.enter_context(_large_pictures())
        port, rig = _robot(
            stack, contract, name != ALONE, ("joints",), PRIORITY if name == FIRST else 0
        )
        # A driver of its own, as robots have: the rig sends by the command path's transport, which
        # loses such pictures.
        stack.enter_context(source(contract, listeners=0)).begin()
        taken = None
        browser = None
        if name == ELSEWHERE:
            taken = _Taker(port)
            stack.callback(taken.close)
        if name in (HERE, FIRST):
            browser = _chromium(stack, port)
        rig.rig.pause(SETTLED_S)
        rig.rig.trigger("hil/disarm")
        rig.rig.arm()  # its times are since then
        pid = rig.runner.pid("console") if name != ALONE else 0
        used = cpu_seconds(pid) if pid else 0.0
        if browser is not None:
            browser.page.evaluate("window.rewactAges.length = 0")
            browser.page.evaluate(COUNT)
        before = taken.pictures if taken else 0
        rig.rig.pause(seconds)
        turn = {"command interval p99": _interval_ms(rig)}
        if pid:
            turn["CPU of the console"] = 100 * (cpu_seconds(pid) - used) / seconds
            turn["memory of the console"] = memory_mb(pid)
        if taken is not None:
            turn["pictures"] = (taken.pictures - before) / seconds
        if browser is not None:
            ages.extend(browser.page.evaluate("window.rewactAges"))
            turn["pictures"] = browser.page.evaluate("window.counted") / seconds
        return turn


def _may_be_first() -> bool:
    """Whether this machine lets a process come before others."""
    _, most = resource.getrlimit(resource.RLIMIT_RTPRIO)
    return os.geteuid() == 0 or most >= PRIORITY


def _interval_ms(rig: Robot) -> float:
    status: ControlStatus = rig.rig.status
    return next(t.p99_ms for t in status.timings if t.name == "command_interval")


class _Taker:
    """A page of another computer: a program that takes all that is sent, and shows nothing."""

    def __init__(self, port: int) -> None:
        self.pictures, self._end = 0, False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._take(port)))
        self._thread.start()

    async def _take(self, port: int) -> None:
        import aiohttp

        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(f"http://127.0.0.1:{port}/stream") as socket,
        ):
            cameras: list[str] = []
            while not self._end:
                message = await socket.receive(timeout=30)
                if message.type is aiohttp.WSMsgType.BINARY:
                    self.pictures += 1
                    await socket.send_json({"shown": cameras[message.data[0]]})
                elif message.type is aiohttp.WSMsgType.TEXT:
                    cameras = json.loads(message.data).get("cameras", cameras)
                else:
                    return

    def close(self) -> None:
        self._end = True
        self._thread.join(30)


class _large_pictures:  # noqa: N801  (a context manager, used as a function)
    """The simulated arm's contract with large pictures at 10 per second."""

    def __enter__(self) -> str:
        import tempfile

        data = strict_yaml.load(default_contract())
        data["rate_hz"] = data["replan_hz"] = 10
        for camera in ("front", "wrist"):
            data[f"observation.images.{camera}"]["shape"] = [480, 640, 3]
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / "contract.yaml"
        file.write_text(yaml.safe_dump(data, sort_keys=False))
        return str(file)

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()


# A hand that is gone --------------------------------------------------------------------------


def jog(bench: Bench, ways: tuple[str, ...] = (*WAYS, *HANDS)) -> None:
    """From a key to the first command that moves, and from each way it is gone to braking."""
    from playwright.sync_api import sync_playwright

    trials = 2 if bench.quick else TRIALS
    bench.settings["jog"] = {"trials of each": trials, "key": KEY}
    with ExitStack() as stack:
        port, rig = _robot(stack, default_contract())
        rig.rig.arm()
        wire = Wire(port)
        stack.callback(wire.close)
        hand = _Hand(stack.enter_context(sync_playwright()), rig, port, wire)
        stack.callback(hand.close)
        starts: list[float] = []
        for way in ways:
            brakes = []
            for _ in range(trials if way in WAYS else min(trials, HAND_TRIALS)):
                start_ms, brake_ms = hand.trial(way)
                starts.append(start_ms)
                brakes.append(brake_ms)
            bench.add(
                f"{way}: to braking, worst",
                max(brakes),
                "ms",
                goal="≤ 250",
                n=len(brakes),
                low=float(np.percentile(brakes, 50)),
                high=max(brakes),
            )
            bench.add(f"{way}: later than 250 ms", sum(b > 250 for b in brakes), "", goal="≤ 0")
        if KEY_WAY not in ways:
            return
        for where in ("#tab-review", "#tab-learn", "#task-text"):
            moved = hand.elsewhere(where)
            bench.add(f"keys typed in {where}: moving commands", moved, "", goal="≤ 0")
        for share in (50, 95):
            value = float(np.percentile(starts, share))
            bench.add(f"key to moving command p{share}", value, "ms", n=len(starts))


class _Hand:
    """Holds a key in a browser until it is gone in some way, again and again."""

    def __init__(self, playwright: Any, rig: Robot, port: int, wire: Wire) -> None:
        self._port = port
        self._playwright, self._robot, self._rig, self._wire = playwright, rig, rig.rig, wire
        self._chromium: Chromium | None = None
        self._up, self._killed_s = True, -math.inf

    def trial(self, way: str) -> tuple[float, float]:
        """(ms from the key to the first command that moves, ms from the end to braking)."""
        if way == "console killed":
            self._rig.pause(max(0.0, self._killed_s + SPACE_S - time.monotonic()))
        self._ready()
        # Up and down in turn: the arm stays where it is.
        key, self._up = ("u" if self._up else "m"), not self._up
        self._rig.pause(0.4)
        pressed_s = time.monotonic()
        self._begin(way, key)
        self._rig.wait(lambda: self._moving_since(pressed_s) is not None, "motion", 10.0)
        moved_s = self._moving_since(pressed_s)
        assert moved_s is not None
        self._rig.pause(CRUISE_S)
        ended_s = time.monotonic()
        after = self._end(way, key)
        self._rig.wait(lambda: self._braking_since(ended_s) is not None, "braking", 10.0)
        braked_s = self._braking_since(ended_s)
        assert braked_s is not None
        after()
        return 1e3 * (moved_s - pressed_s), 1e3 * (braked_s - ended_s)

    def elsewhere(self, where: str) -> int:
        """Moving commands while keys of the jog are held in another place of the page."""
        page = self._ready()
        page.click(where)
        begun_s = time.monotonic()
        for key in "ujyks":
            page.keyboard.down(key)
        self._rig.pause(CRUISE_S)
        for key in "ujyks":
            page.keyboard.up(key)
        _, sizes = self._steps(begun_s)
        page.click("#tab-live")
        return int((sizes > MOVES_RAD).sum())

    def _ready(self) -> Any:
        """A page in control whose jog is on, before an armed robot that hears it."""
        if self._chromium is None:
            wait_for_port(self._port)  # a console that was killed comes back
            url = f"http://127.0.0.1:{self._wire.port}"
            self._chromium = Chromium(self._playwright, url)
            self._chromium.lead()
        self._rig.wait(self._holds, "hold", 10.0)
        if self._rig.status.resume_required:
            self._rig.trigger("hil/resume")
        self._chromium.jog_on()
        node = self._rig.node
        self._rig.wait(lambda: node.count_publishers("teleop/keyboard") == 1, "the jog", 10.0)
        return self._chromium.page

    def _holds(self) -> bool:
        return self._rig.status.mode == ControlStatus.HOLD

    def _begin(self, way: str, key: str) -> None:
        """Hold a pad by a finger, a stick or a key."""
        chromium = self._chromium
        assert chromium is not None
        if way == "finger lifted":
            chromium.touch('[data-jog="z+"]' if key == "u" else '[data-jog="z-"]')
        elif way in HANDS:
            chromium.gamepad([sign * (1 if key == "u" else -1) for sign in UP], deadman=True)
        else:
            chromium.page.keyboard.down(key)

    def _end(self, way: str, key: str) -> Callable[[], None]:
        """Let the hand be gone; returns what makes ready for the next."""
        chromium = self._chromium
        assert chromium is not None
        if way == "key released":
            chromium.page.keyboard.up(key)
            return lambda: None
        if way == "finger lifted":
            chromium.touch(None)
            return lambda: None
        if way in HANDS:
            chromium.gamepad(UP if way.startswith("shoulder") else None, deadman=False)
            return lambda: None
        if way == "focus lost":
            other = chromium.other_tab()

            def back() -> None:
                other.close()
                chromium.page.bring_to_front()
                chromium.page.keyboard.up(key)

            return back
        if way == "packets dropped":
            self._wire.cut = True

            def mend() -> None:
                self._wire.cut = False
                self._drop()

            return mend
        if way == "browser killed":
            chromium.kill()
        else:
            os.kill(self._robot.runner.pid("console"), signal.SIGKILL)
            self._killed_s = time.monotonic()
        return self._drop

    def _drop(self) -> None:
        if self._chromium is not None:
            self._chromium.close()
            self._chromium = None
        node = self._rig.node
        self._rig.wait(lambda: node.count_publishers("teleop/keyboard") == 0, "no jog", 30.0)

    def close(self) -> None:
        if self._chromium is not None:
            self._chromium.close()

    def _steps(self, since_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Arrivals (n,) and sizes (n,) of the steps from command to command since some time."""
        wire = [entry for entry in self._rig.wire[-400:] if entry[0] >= since_s]
        if len(wire) < 3:
            return np.zeros(0), np.zeros(0)
        values = np.array([command[:6] for _, command in wire])
        return np.array([s for s, _ in wire[1:]]), np.abs(np.diff(values, axis=0)).max(axis=1)

    def _moving_since(self, since_s: float) -> float | None:
        at_s, sizes = self._steps(since_s)
        moving = np.flatnonzero(sizes > MOVES_RAD)
        return float(at_s[moving[0]]) if len(moving) else None

    def _braking_since(self, ended_s: float) -> float | None:
        """Arrival of the first of some slow commands after the end: below half the speed before."""
        at_s, sizes = self._steps(ended_s - 0.2)
        cruise = np.median(sizes[at_s <= ended_s]) if (at_s <= ended_s).any() else 0.0
        slow = (at_s > ended_s) & (sizes < 0.5 * cruise)
        # One short step is the hand's own rhythm, which is slower than the commands'.
        for first in np.flatnonzero(slow):
            if slow[first : first + LASTING].sum() == LASTING:
                return float(at_s[first])
        return None


# Nobody needs it -----------------------------------------------------------------------------


def killed(bench: Bench) -> None:
    """Console and browser killed in turn while a policy drives: the robot must not notice."""
    from playwright.sync_api import sync_playwright

    kills = 2 if bench.quick else KILLS
    bench.settings["killed"] = {"kills": kills}
    with ExitStack() as stack:
        plays = ("joints", "cameras", "policy", "supervisor")
        port, rig = _robot(stack, default_contract(), plays=plays)
        playwright = stack.enter_context(sync_playwright())
        rig.rig.arm()
        rig.rig.run_policy()
        left, longest_s = 0, 0.0
        for k in range(kills):
            rig.rig.wait(lambda: listens(port), "the console, which bring-up starts again", 60.0)
            chromium = Chromium(playwright, f"http://127.0.0.1:{port}")
            try:
                chromium.lead()
                since_s = time.monotonic()
                if k % 2:
                    chromium.kill()
                else:
                    os.kill(rig.runner.pid("console"), signal.SIGKILL)
                rig.rig.pause(KILLED_S)
            finally:
                chromium.close()
            left += rig.rig.status.mode != ControlStatus.POLICY
            came_s = [at_s for at_s, _ in list(rig.rig.wire) if at_s >= since_s]
            longest_s = max(longest_s, float(np.diff(came_s).max()))
        bench.add("killed under a policy: it no longer drives", left, "", goal="≤ 0", n=kills)
        bench.add(
            "killed under a policy: longest pause of commands", 1e3 * longest_s, "ms", n=kills
        )


# A robot and its page -------------------------------------------------------------------------


def _robot(
    stack: ExitStack,
    contract: str,
    console: bool = True,
    plays: tuple[str, ...] = ("joints", "cameras"),
    priority: int = 0,
) -> tuple[int, Robot]:
    """hil, a rig that plays the rest, and the console on a port of its own."""
    port = free_port()
    parameters = stack.enter_context(console_parameters(port))
    with parameters.open("a") as file:
        file.write(f"hil:\n  ros__parameters: {{priority: {priority}}}\n")
    runs = ("hil", "console") if console else ("hil",)
    setup = replace(Setup(), contract=contract, params_file=str(parameters))
    rig = stack.enter_context(robot(setup, plays, runs, console=console))
    rig.rig.wait(lambda: bool(rig.rig.statuses), "hil", 60.0)
    if console:
        wait_for_port(port)
    return port, rig


def _chromium(stack: ExitStack, port: int) -> Chromium:
    from playwright.sync_api import sync_playwright

    playwright = stack.enter_context(sync_playwright())
    found = Chromium(playwright, f"http://127.0.0.1:{port}")
    stack.callback(found.close)
    found.lead()
    return found
