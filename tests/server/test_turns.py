"""The request queue: order, shares and limits of waiting calls, with a clock and threads of the test."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from vectordb_client.errors import DeadlineError

from vectordb.common import deadline
from vectordb.server import turns
from vectordb.server.turns import READ_AHEAD, RequestPool, Turn


class Unwatched:
    def arrived(self):
        return 0.0

    def began(self, arrived):
        pass


class Bench:
    """A lane whose threads only note what they were given, at a time that the test sets."""

    def __init__(self, threads, queue=1000, **more):
        self.now = 100.0
        self.lane = RequestPool("test", threads, queue, Unwatched(), clock=lambda: self.now, **more)
        self.lane._threads = self
        self.begun, self.reading, self.refused = [], [], []

    def submit(self, work, place):
        self.begun.append(place)

    def call(self, who, message=True):
        """A call of a caller; its place, or None."""
        place = self.lane.enter(who, lambda: self.refused.append(place))
        if place is not None:
            self.lane.line_up(place, lambda: self.read(place, message))
        return place

    def read(self, place, message):
        self.reading.append(place)
        if message:
            self.lane.ready(place, None)

    def names(self):
        return "".join(place.caller.name for place in self.begun)

    def end(self, place):
        self.lane.leave(place)


def test_a_caller_that_is_alone_has_all_threads_in_the_order_of_its_calls():
    bench = Bench(threads=3)
    places = [bench.call("a") for _ in range(5)]
    assert bench.begun == places[:3]
    bench.end(places[1])
    assert bench.begun == places[:4]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_nobody_holds_all_threads(threads):
    bench = Bench(threads)
    for _ in range(20):
        bench.call("a")
    assert bench.names() == "a" * threads
    bench.call("b")
    assert bench.names() == "a" * threads + "b"
    bench.call("b")
    bench.call("c")  # there is one thread more, not one for each
    assert bench.names() == "a" * threads + "b"


def test_who_waits_is_served_before_who_had_much():
    bench = Bench(threads=1)
    for _ in range(5):
        bench.call("a")
    bench.now += 30
    bench.call("b")
    bench.call("c")
    bench.end(bench.begun[0])
    assert bench.names() == "abc"


def simulated(bench, costs, seconds):
    """Lets calls that wait take their caller's cost, for some seconds; what each caller used."""
    used, ends, seen, stop = dict.fromkeys(costs, 0.0), [], 0, bench.now + seconds
    while bench.now < stop:
        for place in [each for each in bench.begun[seen:] if each.state is turns.WORKING]:
            ends.append((bench.now + costs[place.caller.name], len(ends), place))
        seen = len(bench.begun)
        ends.sort(key=lambda end: end[:2])
        bench.now, _, place = ends.pop(0)
        used[place.caller.name] += costs[place.caller.name]
        bench.end(place)
        bench.call(place.caller.name)
    return used


def test_turns_go_by_what_calls_cost_and_not_by_their_number():
    bench = Bench(threads=1)  # and one for others: two at work, three that want to
    costs = {"a": 1.0, "b": 0.1, "c": 0.03}
    for name in costs:
        for _ in range(50):
            bench.call(name)
    used = simulated(bench, costs, 300.0)
    assert sum(used.values()) == pytest.approx(600, abs=5)
    assert all(share == pytest.approx(200, abs=15) for share in used.values()), used


def test_time_that_was_not_used_is_not_saved_up():
    bench = Bench(threads=1)
    bench.end(bench.call("c"))
    costs = {"a": 0.1, "b": 0.1}
    for name in costs:
        for _ in range(50):
            bench.call(name)
    simulated(bench, costs, 1000.0)
    for _ in range(50):
        bench.call("c")
    used = simulated(bench, costs | {"c": 0.1}, 30.0)
    assert all(share == pytest.approx(20, abs=3) for share in used.values()), used


def test_a_full_queue_takes_the_newest_of_whom_has_most():
    bench = Bench(threads=1, queue=5)
    places = [bench.call("a") for _ in range(6)]
    assert bench.call("a") is None  # only one of many is refused: the one who fills the queue
    b = bench.call("b")  # one place more is for who has none
    assert b is not None and not bench.refused
    second = bench.call("b")
    assert second is not None and bench.refused == [places[-1]]
    third = bench.call("b")
    assert third is not None and bench.refused == places[-1:-3:-1]
    assert bench.call("b") is None  # they have as many now, but for one
    assert bench.lane.inside == 7


def test_a_call_whose_message_never_comes_gives_its_place_to_others_too():
    bench = Bench(threads=1, queue=3)
    silent = [bench.call("a", message=False) for _ in range(4)]
    assert [bench.call(name) is not None for name in "bc"] == [True, True]
    assert bench.refused == silent[-1:] and bench.names() == "bc"


def test_few_messages_are_read_before_their_turn():
    bench = Bench(threads=4)
    for _ in range(100):
        bench.call("a", message=False)
    assert len(bench.reading) == READ_AHEAD
    bench.call("b", message=False)
    assert bench.reading[-1].caller.name == "b" and len(bench.reading) == READ_AHEAD + 1
    for i in range(100):
        bench.call(f"c{i}", message=False)
    assert len(bench.reading) == 2 * READ_AHEAD
    assert bench.lane.withdraw(bench.reading[0]) and not bench.lane.withdraw(bench.reading[0])
    assert len(bench.reading) == 2 * READ_AHEAD + 1  # one of those that had none
    for place in bench.reading[:]:
        bench.lane.ready(place, None)
    assert len(bench.begun) == 5 and len(bench.reading) == 2 * READ_AHEAD + 6


def test_leaving_at_any_time_gives_everything_back():
    bench = Bench(threads=1, queue=50)
    places = [bench.call("a", message=i % 2 == 0) for i in range(40)] + [bench.call("b") for _ in range(4)]
    for place in places[::-1] + places:
        bench.end(place)
    lane = bench.lane
    assert (lane.inside, lane._begun, lane._working, lane._ahead) == (0, 0, 0, 0)
    assert all((each.inside, each.ahead, each.working, each.since) == (0, 0, 0, 0.0) for each in lane._present.values())


# ---- Calls that rest, in threads ----


class Long:
    """A call that checks until it is told to end, in a lane's own threads."""

    def __init__(self, lane, who):
        self.began, self.stop, self.checks, self.error = threading.Event(), threading.Event(), 0, None
        self.place = lane.enter(who, lambda: None)
        self.patience = Turn(60, self.place)
        lane.line_up(self.place, lambda: None)
        lane.ready(self.place, self.run)

    def run(self):
        self.began.set()
        try:
            with deadline.scope(self.patience):
                while not self.stop.wait(0.001):
                    deadline.check()
                    self.checks += 1
        except DeadlineError as error:
            self.error = error


@pytest.fixture
def crowd(monkeypatch):
    """Makes lanes of two cores, and ends their calls."""
    monkeypatch.setattr(turns, "SLICE", 0.0)
    monkeypatch.setattr(turns, "LONGEST_REST", 1e9)
    made = []

    def lane(threads, **more):
        return RequestPool("test", threads, 100, Unwatched(), rests=True, cores=2, **more)

    def call(lane, who):
        made.append(Long(lane, who))
        return made[-1]

    yield lane, call
    for each in made:
        each.stop.set()


def until(holds):
    end = threading.Event()
    for _ in range(60_000):
        if holds():
            return
        end.wait(0.005)
    raise AssertionError


def resting(*calls):
    return sum(call.place.state is turns.RESTING for call in calls)


def test_long_calls_make_way_for_who_waits_and_go_on_afterwards(crowd):
    lane, call = crowd
    lane = lane(1)
    a, b = call(lane, "a"), call(lane, "b")
    assert a.began.wait(300) and b.began.wait(300)
    c = call(lane, "c")  # both threads are taken by calls that would last for ever
    assert c.began.wait(300)
    until(lambda: resting(a, b) == 1)
    c.stop.set()
    until(lambda: resting(a, b) == 0)
    before = a.checks, b.checks
    until(lambda: a.checks > before[0] and b.checks > before[1])


def test_a_caller_alone_never_rests(crowd):
    lane, call = crowd
    lane = lane(4)
    calls = [call(lane, "a") for _ in range(4)]
    for _ in range(3):
        before = [each.checks for each in calls]
        until(lambda before=before: all(each.checks > then + 5 for each, then in zip(calls, before, strict=True)))
        assert resting(*calls) == 0


def test_beside_others_a_caller_keeps_to_its_share_of_the_cores(crowd):
    lane, call = crowd
    lane = lane(4)
    calls = [call(lane, "a") for _ in range(4)]
    until(lambda: all(each.began.is_set() for each in calls))
    other = call(lane, "b")
    assert other.began.wait(300)
    until(lambda: resting(*calls) == 3)
    assert resting(other) == 0
    other.stop.set()
    until(lambda: resting(*calls) == 0)


def test_nobody_rests_while_others_wait_for_what_he_holds(crowd):
    lane, call = crowd
    hurried = threading.Event()
    lane = lane(2, hurried=hurried.is_set)
    calls = [call(lane, "a") for _ in range(2)]
    other = call(lane, "b")
    until(lambda: resting(*calls) == 1)
    hurried.set()
    until(lambda: resting(*calls, other) == 0)
    before = [each.checks for each in calls]
    until(lambda: all(each.checks > then for each, then in zip(calls, before, strict=True)))


def test_who_rests_for_long_goes_on_all_the_same(crowd, monkeypatch):
    monkeypatch.setattr(turns, "LONGEST_REST", 0.1)
    lane, call = crowd
    lane = lane(2)
    calls = [call(lane, "a") for _ in range(2)]
    call(lane, "b")
    until(lambda: resting(*calls) == 1)
    before = [each.checks for each in calls]
    until(lambda: all(each.checks > then for each, then in zip(calls, before, strict=True)))


def test_a_deadline_ends_a_rest(crowd):
    lane, call = crowd
    lane = lane(2)
    calls = [call(lane, "a") for _ in range(2)]
    call(lane, "b")
    until(lambda: resting(*calls) == 1)
    (still,) = [each for each in calls if each.place.state is turns.RESTING]
    still.patience.leave()
    until(lambda: still.error is not None and still.place.state is turns.ENDED)


def test_a_batch_hands_a_pool_a_few_pieces_at_a_time():
    """So that another call's work gets in between, and a check comes after each."""
    submitted, checks = [], []

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments):
            submitted.append(len(checks))
            return super().submit(*arguments)

    class Counted(deadline.Deadline):
        def check(self):
            if threading.current_thread() is threading.main_thread():
                checks.append(1)

    with Pool(2) as pool, deadline.scope(Counted(60)):
        assert list(deadline.map_with_deadline(pool, lambda a, b: a + b, range(100), range(100))) == [2 * i for i in range(100)]
    assert submitted == [0] * deadline._AHEAD + list(range(1, 101 - deadline._AHEAD))
