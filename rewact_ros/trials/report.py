"""What a comparison found: unblinded once it has ended, and counts alone before."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rewact_ros.files import replace_file

from .interval import Interval
from .journal import STOPPED, Course
from .sequential import PairedComparison, SequentialSettings, Standing
from .study import Study, StudyError

REPORT = "report"
_ENDS = {
    "decided": "decided",
    "blocks": "the most blocks were driven, without a decision",
    "futile": "given up: a difference of the gap would hardly be found any more",
    STOPPED: "stopped early by a person",
}


def counts(study: Study, course: Course, most_blocks: int) -> str:
    """How far a study is that has not ended; no score and no version."""
    size = len(study.versions)
    blocks, further = divmod(len(course.results), size)
    lines = [
        f"{blocks} of at most {most_blocks} blocks of {size} trials"
        + (f", and {further} of the next one" if further else ""),
        f"{course.lost.total()} trials cut short, {len(course.unscored)} not scored",
        "blinded until it has ended (`--end` ends it now)",
    ]
    return "\n".join(lines)


def write_report(
    folder: Path, study: Study, course: Course, comparison: PairedComparison
) -> tuple[str, list[Path]]:
    """Write ``report.json``, ``report.md`` and ``report.png`` of a study that has ended.

    Args:
        folder: of the study.
        study: as it was begun.
        course: all of it.
        comparison: has seen nothing yet.

    Returns:
        the findings for a terminal, and the files.

    Raises:
        StudyError: it has not ended; an early look would unblind it.
    """
    if not course.ended:
        raise StudyError(f"{folder}: has not ended: its report would unblind it; end it by --end")
    from .picture import draw

    settings = comparison.settings
    stood = [comparison.add(block) for block in course.blocks(study)] or [comparison.state]
    files = [folder / f"{REPORT}.{kind}" for kind in ("json", "md", "png")]
    document = _document(folder.name, study, course, stood[-1])
    replace_file(files[0], json.dumps(document, indent=1) + "\n")
    replace_file(files[1], _markdown(document, stood[-1], settings))
    draw(files[2], stood, settings)
    return "\n".join(findings(course, stood[-1])), files


def findings(course: Course, standing: Standing) -> list[str]:
    """Who is better, if anyone is, and how sure that is; a line each."""
    return [
        f"{standing.blocks} blocks: {_ENDS[course.ended]}",
        f"{standing.decided} is better than every other" if standing.decided else "nothing decided",
        *(f"{name}: mean score {_interval(mean)}" for name, mean in standing.means.items()),
        *(pair.line for pair in standing.pairs),
    ]


def _document(name: str, study: Study, course: Course, standing: Standing) -> dict[str, Any]:
    names = [version.name for version in study.versions]

    def by_version(places: Iterable[tuple[int, int]]) -> Counter[str]:
        return Counter(names[study.order(block)[slot]] for block, slot in places)

    unscored, lost = by_version(course.unscored), by_version(course.lost.elements())
    return {
        "study": name,
        "ended": course.ended,
        "seed": study.seed,
        "settings": dict(study.settings),
        "versions": [
            {
                **asdict(version),
                "successes": sum(
                    bool(result.success)
                    for trial, result in course.results
                    if names[trial.version] == version.name
                ),
                "trials": sum(names[t.version] == version.name for t, _ in course.results),
                "unscored": unscored[version.name],
                "lost": lost[version.name],
            }
            for version in study.versions
        ],
        "standing": _finite(asdict(standing)),
        "outside_whole_blocks": len(course.results) - standing.blocks * len(names),
        "lost": course.lost.total(),
        "trials": [
            {
                **{**asdict(trial), "version": names[trial.version]},
                "score": result.score,
                "success": result.success,
                **dict(result.about),
            }
            for trial, result in course.results
        ],
    }


def _finite(value: Any) -> Any:
    """As JSON takes it: no number is null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if value != value else value


def _markdown(document: dict[str, Any], standing: Standing, settings: SequentialSettings) -> str:
    verdict = (
        f"**{standing.decided}** is better than every other version"
        if standing.decided
        else "Nothing is decided"
    )
    partial, loose = document["settings"].get("partial"), document["outside_whole_blocks"]
    lines = [
        f"# {document['study']}",
        "",
        f"{verdict}. The study {_PROSE[document['ended']]} after {standing.blocks} blocks.",
        "",
        "![mean scores and differences over the blocks](report.png)",
        "",
        *_tables(document, standing),
        "",
        f"Brackets hold at all times, with a chance of {100 * (1 - settings.alpha):g} %: also "
        "where a person looked, and stopped, at will.",
        "A failure scores the progress that it reached."
        if partial
        else "A success scores 1, a failure 0.",
        _judged(document),
        f"{document['lost']} trials were cut short and driven again."
        + (f" {loose} trials of a block that was not finished do not count." if loose else ""),
    ]
    return "\n".join([*lines, ""])


def _tables(document: dict[str, Any], standing: Standing) -> list[str]:
    lines = [
        "| version | successes | mean score | not scored | cut short | files |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for v in document["versions"]:
        mean = _interval(standing.means[v["name"]])
        lines.append(
            f"| {v['name']} | {v['successes']} of {v['trials']} | {mean} | {v['unscored']} | "
            f"{v['lost']} | `{v['sha256'][:12]}` |"
        )
    lines += ["", "| difference | score | p | better |", "|---|---:|---:|---|"]
    for p in standing.pairs:
        lines.append(
            f"| {p.b} − {p.a} | {_interval(p.difference, '+')} | {p.p:.2g} | "
            f"{p.better or 'not decided'} |"
        )
    return lines


_PROSE = {
    "decided": "was decided",
    "blocks": "came to its largest number of blocks, without a decision,",
    "futile": "was given up, for a difference of the gap would hardly be found any more,",
    STOPPED: "was stopped early by a person",
}


def _judged(document: dict[str, Any]) -> str:
    """Who judged, and what that leaves open."""
    by = sorted({trial.get("by", "unknown") for trial in document["trials"]})
    text = f"Judged by: {' and '.join(by) or 'nobody yet'}."
    if "supervisor" not in by:
        return text
    rates = document["settings"]
    if "judge_detection" not in rates:
        return f"{text} Its errors are not folded in: a difference may be the judge's own."
    return (
        f"{text} Its errors are folded in: complete without success in at most "
        f"{rates['judge_false_completions']:.3f} of episodes, at least "
        f"{rates['judge_detection']:.2f} of the successes found, as calibrated."
    )


def _interval(interval: Interval, sign: str = "") -> str:
    known = interval.mean == interval.mean
    mean = f"{interval.mean:{sign}.2f}" if known else "–"
    return f"{mean} ({interval.low:{sign}.2f} to {interval.high:{sign}.2f})"
