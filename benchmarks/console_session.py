"""A whole session by mouse alone, on the simulated robot: first at a desk, then on a phone.

Arm, start a task, take over by holding a pad, release, go on, judge, review the recording, change
its verdict and back, adopt another version. Screenshots of it lie beside the results.
"""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from console_browser import Chromium, console_parameters, free_port, wait_for_port

from rewact_ros import strict_yaml
from rewact_ros.bench.figures import Bench
from rewact_ros.policy.checkpoint_files import WEIGHTS
from rewact_ros.stack.arguments import BringUp
from rewact_ros.stack.bringup import default_policy
from rewact_ros.stack.commander import Commander

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
TASK = "Put the red cube into the blue tray."
LONG_MS = 60_000.0


def session(bench: Bench) -> None:
    """`--quick`: at a desk only."""
    from playwright.sync_api import sync_playwright

    sizes = {"desktop": SIZES["desktop"]} if bench.quick else SIZES
    pictures = bench.folder / "console"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = _robot(stack, folder)
        playwright = stack.enter_context(sync_playwright())
        for name, size in sizes.items():
            chromium = Chromium(playwright, f"http://127.0.0.1:{port}", size)
            try:
                done = _session(chromium, pictures, name)
            finally:
                chromium.close()
            bench.add(f"session, {name}: steps done by mouse", done, "", goal=f"≥ {len(STEPS)}")
    bench.settings["session"] = {"steps": ", ".join(STEPS), "task": TASK}


STEPS = (
    "control",
    "arm",
    "start",
    "jog on",
    "take over",
    "release",
    "resume",
    "success",
    "review",
    "relabel",
    "take back",
    "adopt a version",
    "stop",
)


def _session(chromium: Chromium, pictures: Path, name: str) -> int:
    """How many of the steps were done; the first that is not ends it, and is told."""
    page, done = chromium.page, 0
    page.set_default_timeout(LONG_MS)
    acts = _acts(chromium)
    for step in STEPS:
        try:
            acts[step](page)
        except Exception as error:
            print(
                f"  {name}: {step}: {str(error)[:300]}; the page says: {page.inner_text('#said')}"
            )
            page.screenshot(path=pictures / f"{name}-failed.png", full_page=True)
            break
        done += 1
        if step in ("take over", "review", "adopt a version"):
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.evaluate(
                    "window.scrollTo(0, 0)"
                )  # its header stays at the top of what is seen
                page.wait_for_timeout(400)
                file = f"{name}-{step.split()[0]}-{scheme}.png"
                page.screenshot(path=pictures / file, full_page=True)
        if step == "take over":
            page.mouse.up()
    return done


def _acts(chromium: Chromium) -> dict[str, Any]:
    def press(name: str) -> Any:
        return lambda page: page.click(f'[data-name="{name}"]')

    def then(act: Any, *selectors: str) -> Any:
        def do(page: Any) -> None:
            act(page)
            for selector in selectors:
                page.wait_for_selector(selector)

        return do

    def start(page: Any) -> None:
        page.fill("#task-text", TASK)
        page.click("#task-start")

    def take_over(page: Any) -> None:
        """Hold a pad by the mouse; it is let go after the picture."""
        page.locator('[data-jog="z+"]').scroll_into_view_if_needed()
        box = page.locator('[data-jog="z+"]').bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()

    def review(page: Any) -> None:
        page.click("#tab-review")
        done = "tr[data-id]:has-text('success')"  # the recorder takes a moment
        page.wait_for_selector(f"{done} .link")
        page.locator(done).locator(".link").first.click()

    def adopt(page: Any) -> None:
        page.click("#tab-learn")
        page.click("[data-version]:not([disabled])")

    return {
        "control": lambda page: chromium.lead(),
        "arm": then(press("arm"), "#mode.HOLD"),
        "start": then(start, "#mode.POLICY"),
        "jog on": lambda page: chromium.jog_on(),
        "take over": then(take_over, "#mode.HUMAN"),
        "release": lambda page: page.wait_for_selector("#mode:not(.HUMAN)"),
        "resume": then(press("resume"), "#mode.POLICY"),
        "success": then(press("success"), "#events li:has-text('success')"),
        "review": then(review, ".viewer canvas"),
        "relabel": then(
            lambda page: page.click(".viewer button:has-text('Failure')"),
            ".viewer strong:text-is('failure')",
        ),
        "take back": then(
            lambda page: page.click(".viewer button:has-text('Undo verdict')"),
            ".viewer strong:text-is('success')",
        ),
        "adopt a version": then(adopt, "#learn .versions button:text-is('runs')"),
        "stop": then(lambda page: page.click("#stop"), "#mode.DISARMED"),
    }


def _robot(stack: ExitStack, folder: Path) -> int:
    """The simulated robot with its policy, a recorder and two versions to choose from."""
    versions = folder / "versions"
    for name in ("first", "second"):
        shutil.copytree(default_policy(), versions / name)
    _change(versions / "second" / WEIGHTS)
    port = free_port()
    file = stack.enter_context(console_parameters(port))
    parameters = strict_yaml.load(file)
    parameters["console"]["ros__parameters"]["policy_dir"] = str(versions)
    parameters["policy"] = {"ros__parameters": {"policy_dir": str(versions), "engine": "torch"}}
    # A person judges: the policy would be done before a slow hand has pressed everything.
    patient = {"hold_timeout_s": 600.0, "timeout_s": 600.0, "threshold": 0.999, "stall_s": 600.0}
    parameters["supervisor"] = {"ros__parameters": patient}
    file.write_text(yaml.safe_dump(parameters))
    args = BringUp(params_file=str(file), console=True, bags_dir=str(folder / "bags"))
    stack.enter_context(Commander(args, write=lambda line: None)).wait_until_ready()
    wait_for_port(port)
    return port


def _change(weights: Path) -> None:
    """The same weights under another version: one number changes by less than a float shows."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    first = min(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[first].view(-1)[0] += 1e-6
    save_file(tensors, weights, metadata={"format": "pt"})
