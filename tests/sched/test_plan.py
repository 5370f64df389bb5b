"""The planner's rules, by tables and by properties."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.sched.plan import (
    LEAST_CYCLES,
    MOST_CYCLES,
    PATIENCE,
    STREAK,
    Entry,
    Planner,
    Priority,
    Share,
)

ADVANCE, INSPECT, BACKGROUND = Priority


def serve(planner, seconds=0.004, cycles=400_000):
    """Give one slice, put the entry back, and return it."""
    entry = planner.pick()
    planner.charge(entry, seconds, cycles)
    planner.put_back(entry)
    return entry


def entries(planner, *wanted):
    """Add one entry of its own share for each (name, weight, priority, deadline)."""
    made = []
    for name, weight, priority, deadline in wanted:
        made.append(Entry(Share(name, weight), priority, deadline))
        planner.add(made[-1])
    return made


def jain(values):
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def test_an_empty_planner_has_nobody_to_pick():
    assert Planner().pick() is None


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        ([("b", 1, BACKGROUND, math.inf), ("i", 1, INSPECT, math.inf)], "ib"),
        ([("i", 1, INSPECT, math.inf), ("a", 1, ADVANCE, math.inf)], "ai"),
        ([("i", 1, INSPECT, 1.0), ("a", 1, ADVANCE, math.inf)], "ai"),
        ([("x", 1, INSPECT, math.inf), ("y", 1, INSPECT, 9.0), ("z", 1, INSPECT, 3.0)], "zyx"),
        ([("x", 1, INSPECT, math.inf), ("y", 1, INSPECT, math.inf)], "xy"),
    ],
    ids=[
        "inspect before background",
        "advance before inspect",
        "class before deadline",
        "earliest deadline first, none last",
        "first come first served between equals",
    ],
)
def test_who_goes_first(wanted, order):
    planner = Planner()
    entries(planner, *wanted)
    assert "".join(planner.pick().share.name for _ in wanted) == order
    assert len(planner) == 0


def test_equal_shares_get_equal_time_even_when_their_slices_differ():
    planner = Planner()
    made = entries(planner, *[(str(n), 1, INSPECT, math.inf) for n in range(10)])
    used = Counter()
    for _ in range(5000):
        entry = planner.pick()
        seconds = 0.001 * (1 + int(entry.share.name))
        planner.charge(entry, seconds, 1000)
        planner.put_back(entry)
        used[entry] += seconds
    assert jain([used[entry] for entry in made]) > 0.999


@given(weights=st.lists(st.integers(1, 50), min_size=2, max_size=8))
def test_time_is_shared_by_weight(weights):
    planner = Planner()
    made = entries(planner, *[(str(n), w, INSPECT, math.inf) for n, w in enumerate(weights)])
    used = Counter(serve(planner) for _ in range(sum(weights) * 20))
    for entry in made:
        assert abs(used[entry] - entry.share.weight * 20) <= 2


def test_a_share_with_many_entries_gets_no_more_than_one_with_one():
    planner = Planner()
    pool, writer = Share("pool"), Share("writer")
    for _ in range(50):
        planner.add(Entry(pool))
    planner.add(Entry(writer))
    used = Counter(serve(planner).share for _ in range(1000))
    assert abs(used[pool] - used[writer]) <= 1


def test_the_entries_of_a_share_take_turns():
    planner = Planner()
    share = Share()
    for _ in range(5):
        planner.add(Entry(share))
    assert set(Counter(serve(planner) for _ in range(50)).values()) == {10}


def assert_fair_after_a_pause(planner, sleeper, worker):
    for _ in range(1000):
        serve(planner)
    planner.add(sleeper)
    used = Counter(serve(planner) for _ in range(100))
    assert abs(used[sleeper] - used[worker]) <= 2


def test_who_comes_back_after_a_pause_has_no_claim_on_the_time_it_slept():
    planner = Planner()
    sleeper, worker = entries(
        planner, ("sleeper", 1, INSPECT, math.inf), ("worker", 1, INSPECT, math.inf)
    )
    serve(planner)
    planner.remove(sleeper)
    assert_fair_after_a_pause(planner, sleeper, worker)


def test_a_saturated_class_leaves_the_lower_ones_one_pick_in_patience_plus_two():
    planner = Planner()
    entries(
        planner,
        ("a", 1, ADVANCE, math.inf),
        ("i", 1, INSPECT, math.inf),
        ("b", 1, BACKGROUND, math.inf),
    )
    used = Counter(serve(planner).share.name for _ in range((PATIENCE + 2) * 100))
    assert used["i"] >= 100
    assert used["b"] >= 100
    assert used["a"] > 1500


def test_a_pick_out_of_turn_is_owed_and_may_not_be_preempted():
    planner = Planner()
    entries(planner, ("a", 1, ADVANCE, math.inf), ("i", 1, INSPECT, math.inf))
    owed = [(entry.share.name, entry.owed) for entry in served(planner, 2 * PATIENCE)]
    assert ("i", True) in owed
    assert ("a", True) not in owed


def served(planner, times):
    for _ in range(times):
        entry = planner.pick()
        yield entry
        planner.charge(entry, 0.004, 1000)
        planner.put_back(entry)


def test_deadlines_leave_the_others_of_their_class_one_pick_in_streak_plus_one():
    planner = Planner()
    entries(planner, ("soon", 1, INSPECT, 1.0), ("never", 1, INSPECT, math.inf))
    used = Counter(serve(planner).share.name for _ in range((STREAK + 1) * 100))
    assert used["never"] >= 100
    assert used["soon"] > used["never"]


@settings(max_examples=60, deadline=None)
@given(
    crowd=st.lists(
        st.tuples(
            st.integers(1, 4), st.sampled_from(Priority), st.sampled_from([1.0, 2.0, math.inf])
        ),
        max_size=8,
    ),
    weight=st.integers(1, 4),
    priority=st.sampled_from(Priority),
    newcomers=st.booleans(),
)
def test_the_wait_is_bounded_whatever_the_crowd(crowd, weight, priority, newcomers):
    """Weights are 1..4 and the class gets its share of picks: that bounds the wait in picks."""
    planner = Planner()
    (patient,) = entries(planner, ("patient", weight, priority, math.inf))
    entries(planner, *[(str(n), *one) for n, one in enumerate(crowd)])
    bound = (PATIENCE + 2) * (STREAK + 1) * 4 * (len(crowd) + 2)
    waited = most = 0
    for turn in range(2 * bound):
        entry = planner.pick()
        planner.charge(entry, 0.004, 1000)
        if entry is patient:
            most, waited = max(most, waited), 0
            planner.put_back(entry)
        elif newcomers:  # an endless stream: it leaves and one who was never here comes
            planner.add(Entry(Share(str(turn), entry.share.weight), entry.priority, entry.deadline))
        else:
            planner.put_back(entry)
        waited += entry is not patient
    assert max(most, waited) <= bound


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("arpc"), st.integers(0, 9)), max_size=300))
def test_nobody_is_lost_or_picked_twice(steps):
    """Compare with a plain set of who waits."""
    planner = Planner()
    shares = [Share(str(n), 1 + n) for n in range(3)]
    everyone = [
        Entry(shares[n % 3], Priority(n % 3), math.inf if n % 2 else float(n)) for n in range(10)
    ]
    waiting, out = set(), set(everyone)
    for action, which in steps:
        entry = everyone[which]
        if action == "a" and entry in out:
            planner.add(entry)
            out.remove(entry)
            waiting.add(entry)
        elif action == "r":
            assert planner.remove(entry) == (entry in waiting)
            waiting.discard(entry)
            out.add(entry)
        elif action in "pc":
            picked = planner.pick()
            assert (picked is None) == (not waiting)
            if picked is not None:
                waiting.remove(picked)
                planner.charge(picked, 0.001 * which, 1000 * which)
                if action == "c":
                    planner.put_back(picked)
                    waiting.add(picked)
                else:
                    out.add(picked)
        assert len(planner) == len(waiting) == sum(planner.lengths())
    picked = [planner.pick() for _ in range(len(waiting))]
    assert set(picked) == waiting
    assert planner.pick() is None


def test_the_same_calls_give_the_same_order():
    def order():
        planner = Planner()
        entries(planner, *[(str(n), 1 + n % 3, Priority(n % 3), math.inf) for n in range(9)])
        return [serve(planner, 0.001 * (n % 5)).share.name for n in range(500)]

    assert order() == order()


def test_adding_a_waiting_entry_again_is_refused():
    planner = Planner()
    (entry,) = entries(planner, ("x", 1, INSPECT, math.inf))
    with pytest.raises(ValueError, match="waits already"):
        planner.put_back(entry)


@pytest.mark.parametrize("weight", [0, -1, math.inf, math.nan])
def test_a_weight_is_positive_and_finite(weight):
    with pytest.raises(ValueError, match="weight"):
        Share("x", weight)


@given(speed=st.floats(1e6, 9e9), target=st.floats(0.001, 0.005))
def test_slices_settle_at_the_wanted_length_whatever_the_speed(speed, target):
    planner = Planner(slice_seconds=target)
    entry = Entry(Share())
    for _ in range(60):
        cycles = planner.slice_cycles(entry)
        planner.charge(entry, cycles / speed, cycles)
    cycles = planner.slice_cycles(entry)
    assert LEAST_CYCLES <= cycles <= MOST_CYCLES
    if cycles < MOST_CYCLES:
        assert cycles / speed == pytest.approx(target, rel=0.3)


def test_a_machine_that_turns_slow_gets_a_short_slice_at_once():
    planner = Planner(slice_seconds=0.004)
    entry = Entry(Share())
    for _ in range(40):
        planner.charge(entry, planner.slice_cycles(entry) / 1e9, planner.slice_cycles(entry))
    planner.charge(entry, planner.slice_cycles(entry) / 1e7, planner.slice_cycles(entry))
    assert planner.slice_cycles(entry) / 1e7 <= 0.005


def test_short_answers_do_not_shorten_the_slices_of_long_ones():
    planner = Planner()
    entry = Entry(Share())
    before = planner.slice_cycles(entry)
    for _ in range(100):
        planner.charge(entry, 20e-6, 200)
    assert planner.slice_cycles(entry) == before


def test_a_leap_over_idle_time_is_not_taken_for_speed():
    planner = Planner()
    entry = Entry(Share())
    before = planner.slice_cycles(entry)
    for _ in range(100):
        planner.charge(entry, 0.001, 1 << 50)
    assert planner.slice_cycles(entry) == before


def test_the_queues_do_not_grow_with_those_who_left():
    planner = Planner()
    share = Share()
    (stays,) = [Entry(share, INSPECT, 5.0)]
    planner.add(stays)
    for _ in range(5000):
        entry = Entry(share, INSPECT, 9.0)
        planner.add(entry)
        planner.remove(entry)
    assert len(share.flows[INSPECT].entries) < 200
    assert len(planner._levels[INSPECT].urgent) < 200


def test_in_a_share_who_waits_gets_a_turn_however_many_newcomers_there_are():
    planner, share = Planner(), Share()
    patient = Entry(share)
    planner.add(patient)
    serve(planner)
    for _ in range(64):
        planner.add(Entry(share))
        entry = planner.pick()
        planner.charge(entry, 0.004, 400_000)
        if entry is patient:
            break
    assert entry is patient


def test_in_a_share_who_comes_back_after_a_pause_has_no_claim_either():
    planner, share = Planner(), Share()
    sleeper, worker = Entry(share), Entry(share)
    planner.add(worker)
    assert_fair_after_a_pause(planner, sleeper, worker)


@given(
    weights=st.lists(st.floats(0.5, 9.0), min_size=2, max_size=6),
    crowd=st.integers(1, 4),
    slices=st.lists(st.floats(1e-5, 0.005), min_size=1, max_size=200),
)
def test_who_always_waits_is_at_most_one_slice_away_from_its_share(weights, crowd, slices):
    """The model: seconds / weight of any two differ by less than the longest slice / weight."""
    planner = Planner()
    shares = [Share(str(n), weight) for n, weight in enumerate(weights)]
    for share in shares:
        for _ in range(crowd):
            planner.add(Entry(share))
    used = dict.fromkeys(shares, 0.0)
    for seconds in slices:
        entry = planner.pick()
        planner.charge(entry, seconds, 1000)
        planner.put_back(entry)
        used[entry.share] += seconds
        virtual = [used[share] / share.weight for share in shares]
        assert max(virtual) - min(virtual) <= 0.005 / min(weights) + 1e-9


def test_one_quick_slice_makes_the_next_one_only_a_few_times_as_long():
    planner, entry = Planner(), Entry(Share())
    before = planner.slice_cycles(entry)
    planner.charge(entry, before / 5e9, before)
    assert before < planner.slice_cycles(entry) <= 4 * before
