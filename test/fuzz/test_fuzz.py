"""What a stranger gives as a file or a message is read, or refused by a named error.

`make fuzz` tries the same targets for long: FUZZ_SECONDS for each.
"""

import os

import pytest
from run import CORPUS, MOST_GROWTH_BYTES, run
from targets import TARGETS

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_strangers_give_is_read_or_refused_by_name(target, folders, capsys):
    folder = folders / target.name
    folder.mkdir()
    tally = run(target, folder, SECONDS)
    with capsys.disabled():
        if SECONDS:
            print(f"\n{tally}", end="")
    assert not tally.crashes, tally.crashes[0]
    assert tally.growth_bytes < MOST_GROWTH_BYTES, str(tally)
    assert tally.read


def test_every_stored_case_belongs_to_a_target():
    assert {path.name for path in CORPUS.iterdir()} <= {target.name for target in TARGETS}
