"""An episode's marks set through the page by mouse, beside the same file written by a hand.

A dataset of the simulated arm, a console without a robot, a real Chromium. What counts is what
`rewact label` reads: both files through its parser.
"""

import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from console_browser import Chromium, console_parameters, free_port, wait_for_port

from rewact_ros import strict_yaml
from rewact_ros.bench.figures import Bench
from rewact_ros.data.labels.settings import MARKS_FILE
from rewact_ros.data.labels.write import open_labelled
from rewact_ros.reward.label_file import read_label_file

SEED = 9_600
# Shares of the episode's length, and the progress there.
KEYPOINTS = ((0.2, 0.15), (0.5, 0.45), (0.9, 1.0))
FALL, CLICKED = 0.65, (0.35, 0.3)
MILESTONES = {"pick": 0.5, "place": 1.0}


def marks(bench: Bench) -> None:
    """Keypoints, a fall and a click on the curve in one episode, milestones in the next."""
    from playwright.sync_api import sync_playwright

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = folder / "datasets" / "arm"
        words = ("demos", "--out", str(root), "--episodes", "2", "--failures", "0",
                 "--retries", "0", "--seed", str(SEED), "--workers", "1")  # fmt: skip
        subprocess.run([sys.executable, "-m", "rewact_ros.cli", *words], check=True)
        port = _console(stack, root.parent)
        chromium = Chromium(
            stack.enter_context(sync_playwright()), f"http://127.0.0.1:{port}", (1280, 900)
        )
        stack.callback(chromium.close)
        chromium.lead()
        source = open_labelled(root)
        hand = _Reviewer(chromium.page, source.lengths).both()
        page_s = hand.pop("seconds")
        written = folder / "by_hand.yaml"
        written.write_text(yaml.safe_dump(hand))
        files = [
            read_label_file(path, source.fps, source.lengths)
            for path in (root / MARKS_FILE, written)
        ]
        bench.settings["marks"] = {"keypoints": KEYPOINTS, "clicked": CLICKED, "fall": FALL}
        same = int(files[0] == files[1])
        bench.add("marks: page's file equals the hand's", same, "", goal="≥ 1", n=len(files))
        bench.add("marks: a whole episode, by a program's mouse", page_s, "s", goal="≤ 20")


class _Reviewer:
    """Marks what a hand would write, and says what that is."""

    def __init__(self, page: Any, lengths: list[int]) -> None:
        self._page, self._lengths = page, lengths
        page.set_default_timeout(60_000)

    def both(self) -> dict[str, Any]:
        """The file of a hand, and the seconds that the first episode took."""
        page = self._page
        page.click("#tab-review")
        begun_s = time.monotonic()
        first = self._keypoints()
        page.click(".viewer button:has-text('Success')")
        page.wait_for_selector(".viewer strong:text-is('success')")
        seconds = time.monotonic() - begun_s
        second = self._milestones()
        return {
            "milestones": MILESTONES,
            "episodes": {0: {"keypoints": first}, 1: second},
            "seconds": seconds,
        }

    def _open(self, k: int) -> None:
        row = self._page.locator(f"tr[data-id]:has-text('episode {k}') .link").first
        row.click()
        self._page.wait_for_selector(f".viewer h2:text-is('episode {k}')")
        self._page.wait_for_selector(".viewer canvas.progress")

    def _keypoints(self) -> list[dict[str, float]]:
        self._open(0)
        page, count = self._page, self._lengths[0]
        made = []
        for share, value in KEYPOINTS:
            frame = self._go(round(share * count))
            page.fill(".marks input[type=number]", str(value))
            self._press("Mark at cursor", f"frame {frame} ")
            made.append({"frame_index": frame, "reward": value})
        frame = self._go(round(FALL * count))
        self._press("Fall", f"frame {frame} ")
        made.append({"frame_index": frame, "reward": 0.0})
        made.append(self._click(count))
        return sorted(made, key=lambda each: each["frame_index"])

    def _click(self, count: int) -> dict[str, float]:
        """A click on the curve; it marks what the page then says, next to where it was aimed at."""
        page, (share, value) = self._page, CLICKED
        page.check(".marks input[type=checkbox]")
        canvas = page.locator(".viewer canvas.progress")
        canvas.scroll_into_view_if_needed()
        before = self._marked()
        box = canvas.bounding_box()
        # The plot's margins are those of review_curves.js.
        x = box["x"] + 46 + share * (box["width"] - 46 - 8)
        y = box["y"] + box["height"] - 18 - value * (box["height"] - 8 - 18)
        page.mouse.click(x, y)
        end_s = time.monotonic() + 30.0
        while len(now := self._marked()) == len(before):
            if time.monotonic() > end_s:
                raise RuntimeError("a click on the progress marks nothing")
            page.wait_for_timeout(50)
        ((frame, marked),) = now.items() - before.items()
        if abs(frame - share * count) > 2 or abs(marked - value) > 0.02:
            raise RuntimeError(f"clicked at {share * count:.0f}, {value}; marked {frame}, {marked}")
        return {"frame_index": frame, "reward": marked}

    def _marked(self) -> dict[int, float]:
        """Frame and progress of each keypoint in the list."""
        items = self._page.locator(".marks li").all_inner_texts()
        found = [re.search(r"frame (\d+) · .*?(\d\.\d\d)", item) for item in items]
        return {int(each[1]): float(each[2]) for each in found if each}

    def _milestones(self) -> dict[str, int]:
        self._open(1)
        page, count = self._page, self._lengths[1]
        page.click(".marks summary")
        page.fill("[aria-label=milestones]", ", ".join(f"{n} {v}" for n, v in MILESTONES.items()))
        page.click(".marks .scheme button")
        found = {}
        for name, share in zip(MILESTONES, (0.4, 0.8), strict=True):
            page.wait_for_selector(f".marks option:text-matches('^{name} ')", state="attached")
            page.select_option(".marks select", f"m {name}")
            found[name] = self._go(round(share * count))
            self._press("Mark at cursor", f"frame {found[name]} ")
        return found

    def _go(self, frame: int) -> int:
        """Put the cursor on a frame by the slider."""
        slider = self._page.locator(".scrub input[type=range]")
        slider.fill(str(frame))
        self._page.wait_for_selector(f".scrub output:has-text('frame {frame}')")
        return frame

    def _press(self, button: str, said: str) -> None:
        self._page.click(f".marks button:has-text('{button}')")
        self._page.wait_for_selector(f".marks li:has-text('{said}')")


def _console(stack: ExitStack, datasets: Path) -> int:
    """A console alone, for datasets."""
    port = free_port()
    file = stack.enter_context(console_parameters(port))
    parameters = strict_yaml.load(file)
    parameters["console"]["ros__parameters"]["datasets"] = str(datasets)
    file.write_text(yaml.safe_dump(parameters))
    words = ("console", "--contract", "none", "--params-file", str(file))
    process = subprocess.Popen([sys.executable, "-m", "rewact_ros.cli", *words])
    stack.callback(process.wait, 30)
    stack.callback(process.terminate)
    wait_for_port(port)
    return port
