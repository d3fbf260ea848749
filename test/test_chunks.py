"""Chunk timing: which command is due now, out of overlapping chunks."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rewact_ros.control.chunks import COMBINE, INTERPOLATION, Chunk, ChunkError, ChunkQueue
from rewact_ros.control.interpolation import monotone_slopes

MS = 1_000_000
DT_MS = 50
combines = st.sampled_from(COMBINE)
interpolations = st.sampled_from(INTERPOLATION)


def ramp(stamp_ms, start, slope, epoch=1, steps=20, joints=1, dt_s=0.05):
    """A chunk whose value at time t (ms) is start + slope * (t - stamp)."""
    values = start + slope * DT_MS * np.arange(steps)
    return Chunk(stamp_ms * MS, epoch, np.repeat(values[:, None], joints, axis=1), dt_s)


def queue(*, joints=1, **kwargs):
    q = ChunkQueue(joints, **kwargs)
    q.start_epoch(1, 0)
    return q


@st.composite
def streams(draw, joints=2):
    """Chunks as a policy sends them: (arrival in ms, chunk) in order, with jittered delays.

    A new one comes before half of the one before has elapsed, so a command is always due.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stamp = arrival = draw(st.integers(0, 100))
    stream = []
    for _ in range(draw(st.integers(2, 6))):
        positions = rng.normal(size=(rng.integers(8, 13), joints))
        arrival = max(arrival + 1, stamp + draw(st.integers(0, 80)))
        stream.append((arrival, Chunk(stamp * MS, 1, positions, DT_MS / 1000)))
        stamp += draw(st.integers(10, 100))
    return stream


def play(q, stream, times_ms):
    """Outputs at the times, chunks added as they arrive; {time: (A,)}."""
    out, waiting = {}, list(stream)
    for t in sorted(times_ms):
        while waiting and waiting[0][0] <= t:
            arrival, chunk = waiting.pop(0)
            q.add(chunk, round(arrival * MS))
        out[t] = q.sample(round(t * MS))
    return out


def test_elapsed_steps_are_skipped_and_steps_interpolated():
    q = queue(combine="replace")
    q.add(ramp(0, 0.0, 1.0), 120 * MS)
    assert q.sample(120 * MS)[0] == pytest.approx(120.0)
    assert q.sample(130 * MS)[0] == pytest.approx(130.0)


@pytest.mark.parametrize("interpolation", INTERPOLATION)
@pytest.mark.parametrize("combine", COMBINE)
def test_no_chunk_covers_times_outside_its_steps(combine, interpolation):
    q = queue(combine=combine, interpolation=interpolation, max_age_s=5.0)
    q.add(ramp(100, 0.0, 1.0, steps=3), 100 * MS)
    assert q.sample(99 * MS) is None
    assert q.sample(200 * MS)[0] == pytest.approx(100.0)
    assert q.sample(201 * MS) is None


@pytest.mark.parametrize("combine", COMBINE)
def test_a_slow_policys_motion_begins_where_the_robot_stands(combine):
    q = queue(combine=combine, max_age_s=0.8)
    q.add(ramp(0, 0.0, 1.0), 300 * MS, at_rest=True)
    assert q.sample(300 * MS)[0] == pytest.approx(0.0)
    assert q.sample(400 * MS)[0] == pytest.approx(100.0)
    q.add(ramp(310, 10.0, 1.0), 620 * MS, at_rest=True)  # it moves: nobody asks where it stands
    assert q.sample(700 * MS)[0] == pytest.approx(400.0)
    assert q.sample(801 * MS) is not None and q.newest_stamp_ns == 310 * MS
    # What is old by its observation stays old, whenever its steps began.
    q = queue(combine=combine, max_age_s=0.5)
    q.add(ramp(0, 0.0, 1.0), 300 * MS, at_rest=True)
    assert q.sample(499 * MS) is not None and q.sample(501 * MS) is None
    # A quick one begins as ever.
    q = queue(combine=combine)
    q.add(ramp(0, 0.0, 1.0), 50 * MS, at_rest=True)
    assert q.sample(50 * MS)[0] == pytest.approx(50.0)


@pytest.mark.parametrize("interpolation", INTERPOLATION)
@pytest.mark.parametrize("combine", COMBINE)
def test_an_action_without_a_future_is_held_until_the_next_and_no_longer(combine, interpolation):
    q = queue(combine=combine, interpolation=interpolation, max_age_s=0.5)
    q.add(ramp(100, 3.0, 0.0, steps=1), 130 * MS)
    for ms in (130, 200, 599):
        assert q.sample(ms * MS)[0] == pytest.approx(3.0)
    assert q.sample(601 * MS) is None
    q = queue(combine=combine, interpolation=interpolation, max_age_s=0.5)
    sent = []
    for i in range(12):
        q.add(ramp(50 * i, float(i), 0.0, steps=1), (50 * i + 30) * MS)
        sent += [q.sample((50 * i + 30 + ms) * MS)[0] for ms in range(50)]
    steps = np.diff(sent)
    assert (steps > -1e-9).all() and sent[-1] == pytest.approx(11.0, abs=0.1)
    # Each takes the older one's place: there is no mean over what was held before.
    assert max(i - value for i, value in enumerate(sent[49::50])) < 0.1
    if combine != "replace":
        assert steps.max() < 0.05, "no jump"


def test_ensembling_weighs_time_aligned_steps_oldest_first():
    q = queue(combine="ensemble", coefficient=0.5)
    for i, value in enumerate((0.0, 1.0, 4.0)):
        q.add(ramp(20 * i, value, 0.0), 20 * i * MS)
    w = np.exp(-0.5 * np.arange(3))
    # The newest has its full weight one step after it arrived.
    assert q.sample(90 * MS)[0] == pytest.approx(w @ [0.0, 1.0, 4.0] / w.sum())


def test_an_ensembles_newest_chunk_gains_weight_over_one_step():
    q = queue(combine="ensemble", coefficient=0.0)
    q.add(ramp(0, 0.0, 0.0), 0)
    q.add(ramp(50, 1.0, 0.0), 60 * MS)
    got = [q.sample(t * MS)[0] for t in (60, 85, 110)]
    assert got == pytest.approx([0.0, 1 / 3, 0.5])


def test_a_crossfade_blends_against_what_would_have_been_commanded_without_the_newest():
    chunks = [(0, ramp(0, 0.0, 0.01)), (60, ramp(50, 1.0, 0.02)), (110, ramp(100, -1.0, 0.0))]
    times = range(120, 210, 10)
    without = play(queue(combine="crossfade", crossfade_s=0.1), chunks[:2], times)
    got = play(queue(combine="crossfade", crossfade_s=0.1), chunks, times)
    for t in times:
        phase = (t - 110) / 100
        fade = phase * phase * (3 - 2 * phase)
        assert got[t][0] == pytest.approx((1 - fade) * without[t][0] + fade * -1.0)


def test_after_its_crossfade_only_the_newest_chunk_counts_to_its_end():
    q = queue(combine="crossfade", crossfade_s=0.1)
    q.add(ramp(0, 0.0, 0.0), 0)
    q.add(ramp(50, 1.0, 0.0, steps=5), 50 * MS)
    assert {float(q.sample(t * MS)[0]) for t in range(150, 251)} == {1.0}
    assert q.sample(251 * MS) is None


def test_replace_takes_a_chunk_over_from_its_stamp_on():
    q = queue(combine="replace")
    q.add(ramp(0, 0.0, 0.0), 0)
    q.add(ramp(50, 1.0, 0.0), 20 * MS)
    assert [q.sample(t * MS)[0] for t in (20, 49, 50, 51)] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("chunk", "words"),
    [
        (ramp(0, 0, 0, epoch=2), "epoch 2"),
        (ramp(0, np.nan, 0), "not finite"),
        (ramp(0, 0, 0, joints=2), "shape"),
        (ramp(-600, 0, 0), "before its epoch"),
        (ramp(700, 0, 0), "future"),
        (Chunk(0, 1, np.zeros((0, 1)), 0.05), "no steps"),
        (Chunk(0, 1, np.zeros(4), 0.05), "shape"),
        (ramp(0, 0, 0, dt_s=0.0), "steps of 0.0 s"),
        (ramp(0, 0, 0, dt_s=np.nan), "steps of nan s"),
        (Chunk(0, 1, np.array([[-1e308], [1e308]]), 0.05), "not finite"),
    ],
)
def test_a_chunk_that_must_not_drive_the_arm_is_refused_with_the_reason(chunk, words):
    with pytest.raises(ChunkError, match=words):
        queue(interpolation="cubic").add(chunk, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"combine": "mean"},
        {"interpolation": "quintic"},
        {"coefficient": np.nan},
        {"coefficient": 100.0},
        {"crossfade_s": 0.0},
        {"max_age_s": np.inf},
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ChunkQueue(1, **wrong)


def test_an_old_chunk_is_dropped():
    q = queue(max_age_s=0.5)
    q.add(ramp(0, 0.0, 0.0), 0)
    assert q.sample(499 * MS) is not None
    assert q.sample(501 * MS) is None


def test_a_flood_of_chunks_keeps_a_bounded_number_of_rows():
    q = queue(combine="ensemble", interpolation="cubic")
    for i in range(2000):
        q.add(Chunk(i, 1, np.zeros((500, 1)), 0.05), i)
    assert q.sample(2000) is not None
    assert len(q._entries) == 64
    assert q._rows.nbytes < 64 * 1024


# Properties -------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(streams(), combines, interpolations, st.floats(-1, 1))
def test_the_output_stays_within_the_hull_of_its_live_chunks(
    stream, combine, interpolation, coefficient
):
    q = queue(joints=2, combine=combine, interpolation=interpolation, coefficient=coefficient)
    for t, out in play(q, stream, range(0, 1200, 7)).items():
        enclosing = []
        for arrival, chunk in stream:
            index = (t * MS - chunk.stamp_ns) / MS / DT_MS
            if arrival <= t and 0 <= index <= min(len(chunk.positions) - 1, 10):
                k = int(index)
                enclosing += list(chunk.positions[k : k + 2])
        if combine == "ensemble":  # a newer chunk that is shorter ends the others' streams
            assert (out is None) == (not enclosing)
        if out is not None:
            assert (np.min(enclosing, axis=0) - 1e-12 <= out).all()
            assert (out <= np.max(enclosing, axis=0) + 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(streams(), st.sampled_from(["crossfade", "ensemble"]), interpolations, st.floats(-1, 1))
def test_the_output_is_continuous_where_chunks_arrive_and_expire(
    stream, combine, interpolation, coefficient
):
    q = queue(joints=2, combine=combine, interpolation=interpolation, coefficient=coefficient)
    arrivals = [arrival for arrival, _ in stream]
    last = stream[-1][1]
    # Where the last command fades out, nothing is left to be continuous with.
    end = last.stamp_ns / MS + (min(len(last.positions) - 1, 10) - 1) * DT_MS
    times = np.arange(arrivals[0], end, 0.25)
    assume(len(times) > 10)
    before = []
    for (_, chunk), arrival in zip(stream, arrivals, strict=True):
        before.append(q.sample(arrival * MS))
        q.add(chunk, arrival * MS)
        if before[-1] is not None:
            assert q.sample(arrival * MS) == pytest.approx(before[-1], abs=1e-12)
    q.start_epoch(1, 0)
    outputs = list(play(q, stream, times.tolist()).values())
    assert all(out is not None for out in outputs)
    spread = max(np.ptp(np.concatenate([c.positions for _, c in stream]), axis=0))
    # The steepest that interpolation and fades can be; a jump is far above it.
    steepest = spread * (3 / DT_MS + 4 * 1.5 / DT_MS)
    assert np.abs(np.diff(outputs, axis=0)).max() <= steepest * 0.25


@settings(max_examples=100, deadline=None)
@given(streams(), st.randoms(use_true_random=False), combines, interpolations)
def test_where_all_chunks_have_arrived_the_output_does_not_depend_on_when(
    stream, random, combine, interpolation
):
    """From one fade after the last arrival on: arrivals jitter, stamps and steps do not."""
    chunks = [chunk for _, chunk in stream]
    delayed, latest = [], 0
    for chunk in chunks:
        latest = max(latest + 1, chunk.stamp_ns // MS + random.randint(0, 60))
        delayed.append((latest, chunk))
    settled = max(stream[-1][0], latest) + 100
    times = range(settled, settled + 300, 11)
    one = play(queue(joints=2, combine=combine, interpolation=interpolation), stream, times)
    other = play(queue(joints=2, combine=combine, interpolation=interpolation), delayed, times)
    for t in times:
        assert (one[t] is None) == (other[t] is None)
        if one[t] is not None:
            assert one[t] == pytest.approx(other[t], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(streams(), st.integers(0, 500), st.integers(10, 400), combines, interpolations)
def test_a_stall_leaves_no_trace_in_later_commands(stream, stall, length, combine, interpolation):
    """No catch-up burst: after a stall the output is what it would have been without it."""
    ticks = range(0, 1000, 10)
    stalled = [t for t in ticks if not stall <= t < stall + length]
    # The chunks themselves were received in time; only nobody sampled.
    one = play(queue(joints=2, combine=combine, interpolation=interpolation), stream, ticks)
    q = queue(joints=2, combine=combine, interpolation=interpolation)
    other = play(q, stream, stalled)
    for t in stalled:
        assert (one[t] is None) == (other[t] is None)
        assert one[t] is None or one[t].tolist() == other[t].tolist()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), combines, interpolations)
def test_whatever_chunks_come_each_is_refused_or_commands_finite_values(
    seed, combine, interpolation
):
    rng = np.random.default_rng(seed)
    q = queue(joints=2, combine=combine, interpolation=interpolation, coefficient=rng.normal())
    extreme = [np.nan, np.inf, -np.inf, 1e9, -1e9, 1e99, -1e99, 1e308, 5e-324, -0.0]
    for now in range(0, 600, 10):
        positions = rng.normal(size=(rng.integers(0, 30), rng.choice([2, 2, 2, 2, 0, 3])))
        if rng.random() < 0.5:
            bad = rng.random(positions.shape) < 0.1
            positions[bad] = rng.choice(extreme, bad.sum())
        jitter = rng.choice([0, 1, -20, 20, -(10**6), 10**6])
        dt_s = rng.choice([0.05, 0.05, 0.05, 1e-6, 3600.0, 0.0, -1.0, np.inf, 1e-300])
        chunk = Chunk((now + int(jitter)) * MS, int(rng.random() < 0.9), positions, dt_s)
        try:
            q.add(chunk, now * MS)
        except ChunkError as error:
            assert str(error)
        out = q.sample((now + 5) * MS)
        assert out is None or np.isfinite(out).all()


# Interpolation ----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=11))
def test_cubic_interpolation_meets_every_step_and_never_overshoots_between_two(values):
    q = queue(interpolation="cubic")
    q.add(Chunk(0, 1, np.array(values)[:, None], 0.05), 0)
    for k, (low, high) in enumerate(map(sorted, itertools.pairwise(values))):
        assert q.sample(k * DT_MS * MS)[0] == pytest.approx(values[k], abs=1e-9)
        for t in range(k * DT_MS, (k + 1) * DT_MS, 5):
            assert low - 1e-9 <= q.sample(t * MS)[0] <= high + 1e-9


def test_cubic_slopes_are_those_of_scipys_pchip():
    interpolate = pytest.importorskip("scipy.interpolate")
    values = np.random.default_rng(0).normal(size=(30, 4)).round(1)
    for length in (2, 3, 30):
        expected = interpolate.PchipInterpolator(np.arange(length), values[:length]).derivative()
        assert monotone_slopes(values[:length]) == pytest.approx(expected(np.arange(length)))


def test_cubic_interpolation_has_no_velocity_steps_at_a_chunks_steps():
    t = np.arange(0, 449)
    largest = {}
    for interpolation in INTERPOLATION:
        q = queue(interpolation=interpolation)
        q.add(Chunk(0, 1, np.sin(np.arange(10) / 2)[:, None], 0.05), 0)
        velocity = np.diff([q.sample(int(ms) * MS)[0] for ms in t])
        largest[interpolation] = np.abs(np.diff(velocity)).max()
    assert largest["cubic"] < largest["linear"] / 5


def test_ages_and_periods_count_to_their_very_bounds():
    limit = 500 * MS
    for late in (limit, -limit):
        queue().add(ramp(1000, 0.0, 0.0), 1000 * MS + late)
    with pytest.raises(ChunkError, match=r"^chunk is 0\.60 s old$"):
        queue().add(ramp(1000, 0.0, 0.0), 1600 * MS)
    with pytest.raises(ChunkError, match=r"^chunk is stamped 0\.70 s in the future$"):
        queue().add(ramp(1000, 0.0, 0.0), 300 * MS)
    for dt_s, fits in ((1e-6, True), (9e-7, False), (3600.0, True), (3600.5, False)):
        chunk = ramp(0, 0.0, 0.0, dt_s=dt_s)
        if fits:
            queue().add(chunk, 0)
        else:
            with pytest.raises(ChunkError, match="steps of"):
                queue().add(chunk, 0)
    with pytest.raises(ChunkError, match="not finite"):
        queue().add(ramp(0, 1e100, 0.0), 0)


def test_a_chunk_of_the_same_observation_or_an_older_one_is_refused():
    q = queue()
    q.add(ramp(100, 0.0, 0.0), 100 * MS)
    for stamp_ms in (100, 99):
        with pytest.raises(ChunkError, match="not newer"):
            q.add(ramp(stamp_ms, 1.0, 0.0), 110 * MS)
    q.add(ramp(101, 0.0, 0.0), 110 * MS)


def test_a_queue_begins_with_epoch_0_and_the_time_0():
    q = ChunkQueue(1)
    with pytest.raises(ChunkError, match="current epoch is 0"):
        q.add(ramp(0, 1.0, 0.0, epoch=1), 0)
    q.add(ramp(0, 1.0, 0.0, epoch=0), 0)
    assert q.sample(0)[0] == 1.0


@pytest.mark.parametrize("name", ["max_age_s", "crossfade_s"])
def test_a_time_out_of_range_is_named(name):
    for value in (0.0, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"^{name}: "):
            ChunkQueue(1, **{name: value})
    for coefficient in (-11.0, 11.0):
        with pytest.raises(ValueError, match="^coefficient: "):
            ChunkQueue(1, coefficient=coefficient)
    for coefficient in (-10.0, 10.0):
        ChunkQueue(1, coefficient=coefficient)


@pytest.mark.parametrize("combine", ["crossfade", "ensemble"])
def test_where_all_end_at_once_they_weigh_as_at_full_weight(combine):
    q = queue(combine=combine, coefficient=0.0)
    q.add(ramp(0, 1.0, 0.0, steps=5), 0)
    q.add(ramp(50, 3.0, 0.0, steps=4), 50 * MS)
    assert q.sample(200 * MS)[0] == pytest.approx(3.0 if combine == "crossfade" else 2.0)


def test_a_chunk_too_short_to_take_over_leaves_the_older_ones_in_place():
    """Full weight would come at 150 ms, its last step begins at 150: only then may it take over."""
    for steps, after in ((3, 1.0), (4, None)):
        q = queue(combine="crossfade", crossfade_s=0.1)
        q.add(ramp(0, 1.0, 0.0, steps=8), 0)
        q.add(ramp(50, 3.0, 0.0, steps=steps), 50 * MS)
        end_ms = 50 + (steps - 1) * DT_MS
        sampled = q.sample((end_ms + 1) * MS)
        assert sampled is None if after is None else sampled[0] == pytest.approx(after)
    assert q.sample(175 * MS)[0] == pytest.approx(3.0), "nothing older counts in its last step"


def test_a_newest_chunk_that_replaces_does_so_however_short_it_is():
    q = queue(combine="replace")
    q.add(ramp(0, 1.0, 0.0), 0)
    q.add(ramp(50, 3.0, 0.0, steps=2), 50 * MS)
    assert q.sample(99 * MS)[0] == 3.0
    assert q.sample(101 * MS) is None


def test_a_chunk_fades_in_where_any_chunk_covers_its_begin_and_stands_at_once_where_none_does():
    q = queue(combine="crossfade", crossfade_s=0.1)
    q.add(ramp(0, 1.0, 0.0), 0)
    q.add(ramp(300, 1.0, 0.0), 10 * MS)  # of later
    q.add(ramp(310, 9.0, 0.0), 310 * MS)
    assert q.sample(310 * MS)[0] == pytest.approx(1.0)
    q = queue(combine="crossfade", crossfade_s=0.1)
    q.add(ramp(0, 1.0, 0.0), 0)
    q.add(ramp(10, 1.0, 0.0, steps=3), 10 * MS)  # over at 110 ms, and the other one is not
    q.add(ramp(150, 9.0, 0.0), 150 * MS)
    assert q.sample(150 * MS)[0] == pytest.approx(1.0)
    q = queue(combine="crossfade", crossfade_s=0.1)
    q.add(ramp(0, 1.0, 0.0, steps=3), 0)
    q.add(ramp(100, 9.0, 0.0), 100 * MS)  # the very end of the other
    assert q.sample(100 * MS)[0] == pytest.approx(9.0)


@pytest.mark.parametrize("coefficient", [-10.0, 10.0])
def test_weights_are_finite_however_many_chunks_there_were(coefficient):
    q = queue(coefficient=coefficient)
    for k in range(400):
        q.add(ramp(k * 10, float(k), 0.0), k * 10 * MS)
    sampled = q.sample(4100 * MS)[0]
    assert 350 < sampled < 400
