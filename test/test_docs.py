"""The documentation: links and anchors lead somewhere, every page is found, it is short."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from test_rooms import rooms  # noqa: F401  (a fixture)

from rewact_ros.strict_yaml import load

DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    plain = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading) for heading in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def links(page: Path) -> list[tuple[Path, str]]:
    """Files, and anchors in them, that a page's relative links lead to."""
    text = CODE.sub("", page.read_text())
    found = (link.partition("#") for link in LINK.findall(text) if "://" not in link)
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(page):
    for target, anchor in links(page):
        assert target.exists(), f"{page.name}: {target} is not there"
        assert not anchor or anchor in anchors(target), f"{page.name}: {target.name}#{anchor}"


def test_pages_of_the_site_link_to_nothing_outside_it():
    for page in DOCS.rglob("*.md"):
        outside = [str(target) for target, _ in links(page) if not target.is_relative_to(DOCS)]
        assert not outside, f"{page.name}: name the file in code instead: {outside}"


@pytest.mark.parametrize("start", [ROOT / "README.md", DOCS / "README.md"], ids=["root", "docs"])
def test_every_page_is_reached_from_the_readme(start):
    reached, waiting = set(), [start]
    while waiting:
        page = waiting.pop()
        if page.suffix == ".md" and page not in reached:
            reached.add(page)
            waiting += [target for target, _ in links(page)]
    assert not set(DOCS.rglob("*.md")) - reached


def test_the_site_lists_every_page_of_the_index():
    nav = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert nav == {str(page.relative_to(DOCS)) for page in DOCS.glob("*.md")} | {
        "results/README.md"
    }


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_documented_rooms_are_the_rooms_in_their_order(rooms):  # noqa: F811
    table = (DOCS / "architecture.md").read_text().partition("## Rooms")[2].partition("\n\n**")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == rooms.ROOMS


def test_the_commit_hooks_are_what_make_lint_runs():
    recipe = (ROOT / "Makefile").read_text().partition("\nlint: setup\n")[2].partition("\n\n")[0]
    hooks = load(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == [line.strip() for line in recipe.splitlines()]
