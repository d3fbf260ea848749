"""The topics of `rewact bench`: files of `benchmarks/` with a function `run`."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

from rewact_ros.bench.figures import Bench
from rewact_ros.sim.task import DEFAULT_TASK


def topic_names(folder: Path) -> list[str]:
    """The topics of a folder."""
    files = (file for file in folder.glob("*.py") if "\ndef run(bench" in file.read_text())
    return sorted(file.stem.replace("_", "-") for file in files)


def load_topic(folder: Path, asked: Bench) -> Callable[[Bench], None]:
    """Give the function that measures a topic.

    Raises:
        ValueError: no such topic, it measures on the default task only, or has none to choose.
    """
    topic = asked.topic
    path = folder / f"{topic.replace('-', '_')}.py"
    known = topic_names(folder)
    if path.stem.replace("_", "-") not in known:
        raise ValueError(
            f"bench: no topic '{topic}'; known: {', '.join(known) or 'none outside a source tree'}"
        )
    spec = importlib.util.spec_from_file_location(f"benchmarks.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # a topic's other files lie beside it
    spec.loader.exec_module(module)
    if asked.task != DEFAULT_TASK and not getattr(module, "ANY_TASK", False):
        raise ValueError(f"bench {topic}: measures on {DEFAULT_TASK} only; leave --task out")
    if asked.only and not getattr(module, "PARTS", False):
        raise ValueError(f"bench {topic}: has no parts to choose; leave --only out")
    if asked.workers > 1 and not getattr(module, "SIDE_BY_SIDE", False):
        raise ValueError(f"bench {topic}: measures one after the other; leave --workers out")
    run: Callable[[Bench], None] = module.run
    return run
