"""A comparison as a picture: every version's mean score, and their differences, over the blocks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .interval import Interval
from .sequential import SequentialSettings, Standing

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:pink")
_MOST_PAIRS = 6  # more bands over one another say nothing


def draw(file: Path, stood: Sequence[Standing], settings: SequentialSettings) -> None:
    """Write a picture of where a comparison stood after each block.

    Args:
        file: PNG.
        stood: after each block, one at least.
        settings: of the comparison.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    figure, (means, pairs) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for k, name in enumerate(stood[-1].means):
        _band(means, stood, [s.means[name] for s in stood], name, k)
    means.set(title="mean score of each version", ylabel="score", ylim=(-0.02, 1.02))
    for k, pair in enumerate(stood[-1].pairs[:_MOST_PAIRS]):
        label = f"{pair.b} − {pair.a}"
        _band(pairs, stood, [s.pairs[k].difference for s in stood], label, k)
    pairs.axhline(0.0, color="black", linewidth=1)
    pairs.set(title="difference of scores", ylabel="difference", ylim=(-1.04, 1.04))
    for axes in (means, pairs):
        axes.set(xlabel="blocks", xlim=(1, max(len(stood), 2)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=8)
    last = stood[-1]
    verdict = f"{last.decided} is better" if last.decided else "nothing decided"
    sure = f"bands hold at all times, {100 * (1 - settings.alpha):g} %"
    figure.suptitle(f"{last.blocks} blocks: {verdict} ({sure})")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _band(
    axes: Any, stood: Sequence[Standing], found: Sequence[Interval], label: str, k: int
) -> None:
    blocks, colour = [s.blocks for s in stood], _COLOURS[k % len(_COLOURS)]
    axes.plot(blocks, [i.mean for i in found], color=colour, label=label)
    low, high = [i.low for i in found], [i.high for i in found]
    axes.fill_between(blocks, low, high, color=colour, alpha=0.18, linewidth=0)
