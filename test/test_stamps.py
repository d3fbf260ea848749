"""What a stamp may be, and that one that cannot be does not deafen anybody to the next."""

import pytest

from rewact_ros.stamps import NANO, Stamps, ran_back, stamp_fault

NOW = 1_700_000_000 * NANO
IN_2038 = 2**31 * NANO


@pytest.mark.parametrize(
    ("stamp_ns", "says"),
    [
        (0, "zero"),
        (NANO, "old"),  # 1970
        (IN_2038, "ahead"),
        (NOW + NANO, "ahead"),
        (NOW - 10 * NANO, "old"),
        (-NANO, "old"),
    ],
)
def test_a_stamp_of_another_time_is_refused_by_name(stamp_ns, says):
    assert says in stamp_fault(stamp_ns, NOW)


def test_stamps_of_now_are_taken():
    assert not stamp_fault(NOW, NOW)
    assert not stamp_fault(NOW + NANO // 10, NOW)
    assert not stamp_fault(NOW - NANO, NOW)


def test_a_stamp_from_before_the_beginning_is_refused():
    assert "before the beginning" in stamp_fault(NOW - NANO, NOW, since_ns=NOW)
    assert not stamp_fault(NOW, NOW, since_ns=NOW)


def test_without_a_clock_no_stamp_is_taken():
    assert "/clock" in stamp_fault(NANO, 0)


def test_a_stamp_of_2038_does_not_deafen():
    stamps = Stamps()
    assert not stamps.fault(NOW, NOW)
    assert "ahead" in stamps.fault(IN_2038, NOW + 1)
    assert not stamps.fault(NOW + 2, NOW + 2)
    assert stamps.refused == 1


def test_stamps_never_run_backwards_unless_the_clock_does():
    stamps = Stamps()
    assert not stamps.fault(NOW, NOW)
    assert "before the last one" in stamps.fault(NOW - NANO // 10, NOW + NANO // 10)
    back = NOW - 60 * NANO
    assert ran_back(back, NOW)
    assert not stamps.fault(back, back)
    assert not stamps.fault(back + 1, back + 1)
