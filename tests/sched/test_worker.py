"""Workers at a desk, without a loop: hand-offs, batches, sleeping, late interrupts."""

import threading

import pytest

from orchestra.errors import MachineClosed
from orchestra.machine.stop import Halted
from orchestra.sched.desk import Desk
from orchestra.sched.jobs import Job, RunJob, State
from orchestra.sched.plan import NO_DEADLINE, Planner, Priority, Share
from orchestra.sched.precedence import PATIENCE_SECONDS
from orchestra.sched.worker import HostClock, Worker
from orchestra.testing import FOREVER, FakeClock, FakeMachine, Halt, Work


class Office:
    """A desk whose loop is the worker itself: what is posted is delivered at once."""

    def __init__(self, workers=1):
        self.posts = 0
        self.told = []
        self.some = threading.Semaphore(0)
        self.desk = Desk(Planner(), FakeClock(), self.post, self.tell)
        self.desk.workers = [Worker(self.desk) for _ in range(workers)]
        self.threads = [threading.Thread(target=worker.work) for worker in self.desk.workers]

    def post(self):
        self.posts += 1
        self.desk.outbox.deliver()

    def tell(self, job):
        self.told.append(job)
        self.some.release()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.desk.stop()
        for thread in self.threads:
            thread.join()

    def wait(self, jobs):
        for _ in range(jobs):
            assert self.some.acquire(timeout=10)


def run_job(script, share=None, **options):
    machine = FakeMachine(script, **options)
    return RunJob(machine, share or Share(), Priority.INSPECT, NO_DEADLINE, None)


class Steps(Job):
    """A job that calls a function in each step."""

    __slots__ = ("function",)

    def __init__(self, function, priority=Priority.INSPECT):
        super().__init__(None, Share(), priority)
        self.function = function

    def step(self, max_cycles, max_seconds):
        return self.function()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_job_is_told_once_when_it_has_ended(workers):
    jobs = [run_job([Work(1000 * n), Halt(n)]) for n in range(200)]
    with Office(workers) as office:
        for job in jobs:
            office.desk.submit(job)
        office.wait(len(jobs))
    assert sorted(job.result.code for job in office.told) == list(range(200))


def test_brief_jobs_are_told_in_batches():
    share = Share()
    share.brief, share.cpu_seconds, share.late = True, 0.0, 0.0
    office = Office()
    for n in range(640):
        office.desk.submit(run_job([Halt(n)], share))
    with office:
        office.wait(640)
    assert office.posts == 10


def test_no_brief_job_waits_long_for_a_batch():
    office = Office()
    share = brisk()

    def take_a_while():
        office.desk.clock.advance(90e-6)
        return True

    for _ in range(60):
        job = Steps(take_a_while)
        job.share = share
        office.desk.submit(job)
    with office:
        office.wait(60)
    assert 4 <= office.posts <= 10  # about one a millisecond


def test_a_job_is_told_at_once_when_a_long_slice_comes_next():
    office = Office()
    told = []

    def look():
        told.append(list(office.told))
        return True

    brief, long = run_job([Halt()]), Steps(look)
    office.desk.submit(brief)
    office.desk.submit(long)
    with office:
        office.wait(2)
    assert told == [[brief]]


def test_a_long_job_among_brief_ones_does_not_hold_them_up():
    share = Share()
    share.brief, share.cpu_seconds, share.late = True, 0.0, 0.0
    long = run_job(FOREVER, share, pace="host", cycles_per_second=1e6)
    with Office(2) as office:
        office.desk.submit(long)
        while not long.cycles:
            pass
        for n in range(50):
            share.brief = True
            office.desk.submit(run_job([Halt(n)], share))
        office.wait(50)
        assert not long.over


def test_sleeping_workers_are_woken_by_a_job():
    with Office(3) as office:
        for n in range(300):
            office.desk.submit(run_job([Halt(n)]))
            office.wait(1)
    assert len(office.told) == 300


def test_a_job_that_has_not_begun_is_cancelled_without_a_worker():
    office = Office()
    job = run_job(FOREVER)
    office.desk.submit(job)
    assert office.desk.cancel(job)
    assert job.state is State.ENDED
    with office:
        office.desk.submit(run_job([Halt()]))
        office.wait(1)
    assert job.machine.family.runs == 0


def test_a_job_that_waits_for_its_next_slice_is_cancelled_by_a_worker():
    with Office() as office:
        jobs = [run_job(FOREVER) for _ in range(50)]
        for job in jobs:
            office.desk.submit(job)
        while not all(job.cycles for job in jobs):
            pass
        assert not any(office.desk.cancel(job) for job in jobs)
        office.wait(50)
    assert set(office.told) == set(jobs)


def test_an_interrupt_that_came_too_late_is_taken_back():
    machine = FakeMachine([Halt(3)])

    class Late(RunJob):
        __slots__ = ()

        def step(self, max_cycles, max_seconds):
            done = super().step(max_cycles, max_seconds)
            office.desk.cancel(self)  # the machine has stopped already
            return done

    job = Late(machine, Share(), Priority.INSPECT, NO_DEADLINE, None)
    with Office() as office:
        office.desk.submit(job)
        office.wait(1)
    assert machine.run() == Halted(0, 3)  # not Interrupted


def test_an_advance_interrupts_a_slice_of_a_lower_class():
    slow = run_job(FOREVER, pace="host", cycles_per_second=1.0)
    with Office() as office:
        office.desk.submit(slow)
        while not office.desk.running():
            pass
        advance = run_job([Halt()])
        advance.priority = Priority.ADVANCE
        office.desk.submit(advance)
        office.wait(1)
        assert office.told == [advance]
        assert not slow.over


def test_an_advance_does_not_interrupt_another():
    office = Office()
    office.desk.workers[0].job = first = run_job(FOREVER)
    first.priority = Priority.ADVANCE
    second = run_job([Halt()])
    second.priority = Priority.ADVANCE
    office.desk.submit(second)
    assert not first.interrupting


def test_a_slice_that_was_owed_is_not_interrupted():
    office = Office()
    office.desk.workers[0].job = owed = run_job(FOREVER)
    owed.owed = True
    advance = run_job([Halt()])
    advance.priority = Priority.ADVANCE
    office.desk.submit(advance)
    assert not owed.interrupting


def test_an_error_in_a_job_is_its_own():
    def fail():
        raise ZeroDivisionError

    with Office() as office:
        bad, good = Steps(fail), run_job([Halt()])
        office.desk.submit(bad)
        office.desk.submit(good)
        office.wait(2)
    assert isinstance(bad.error, ZeroDivisionError)
    assert good.error is None


def test_stopping_ends_everything_and_refuses_what_comes():
    running = run_job(FOREVER, pace="host", cycles_per_second=1.0)
    waiting = [run_job(FOREVER) for _ in range(20)]
    with Office() as office:
        for job in (running, *waiting):
            office.desk.submit(job)
        while not office.desk.running():
            pass
    assert len(office.told) == 21
    assert all(isinstance(job.error, MachineClosed) for job in office.told)
    with pytest.raises(MachineClosed):
        office.desk.submit(run_job([Halt()]))


def test_what_is_left_without_workers_is_swept():
    office = Office()
    job = run_job(FOREVER)
    office.desk.submit(job)
    office.desk.stop()
    Worker(office.desk).sweep()
    assert office.told == [job]
    assert isinstance(job.error, MachineClosed)


def test_a_job_cancelled_between_its_pick_and_its_slice_ends_and_holds_nobody_up():
    desk = Desk(Planner(), FakeClock(), lambda: None, lambda _: None)
    worker = Worker(desk)
    desk.workers = [worker]
    share = Share()
    share.note(1e-5, 1e-5)
    for _ in range(40):
        share.note(1e-5, 1e-5)
    job = RunJob(FakeMachine(FOREVER), share, Priority.ADVANCE, NO_DEADLINE, None)
    desk.submit(job)
    assert desk.precedence.held == 1  # it is expected to be quick
    assert desk.take(worker) is job
    assert desk.cancel(job) is False
    worker.serve(job)
    assert job.state is State.ENDED
    assert isinstance(job.error, MachineClosed)
    assert desk.precedence.held == 0
    assert job.machine.family.runs == 0


def test_inspects_wait_while_a_quick_writer_is_at_work_but_not_for_ever():
    clock = FakeClock()
    desk = Desk(Planner(), clock, lambda: None, lambda _: None)
    worker, other = Worker(desk), Worker(desk)
    desk.workers = [worker, other]
    quick = Share()
    for _ in range(40):
        quick.note(1e-5, 1e-5)
    writers = [
        RunJob(FakeMachine([Halt()]), quick, Priority.ADVANCE, NO_DEADLINE, None) for _ in range(3)
    ]
    asked = RunJob(FakeMachine([Halt()]), Share(), Priority.INSPECT, NO_DEADLINE, None)
    desk.submit(writers[0])
    desk.submit(asked)
    assert desk.take(worker) is writers[0]
    assert desk.take(other) is None  # the inspect waits
    desk.submit(writers[1])
    worker.serve(writers[0])
    assert desk.take(worker) is writers[1]
    assert desk.take(other) is None
    clock.advance(PATIENCE_SECONDS)
    assert desk.take(other) is asked  # though a writer is at work again


def brisk():
    """Return a share whose jobs are known to be short."""
    share = Share()
    for _ in range(100):
        share.note(1e-5, 1e-5)
    assert share.brief
    assert share.quick
    return share


def desk_of(workers):
    clock = FakeClock()
    desk = Desk(Planner(), clock, lambda: None, lambda _: None)
    desk.workers = [Worker(desk) for _ in range(workers)]
    return desk, *desk.workers


def test_one_worker_serves_brief_jobs_and_the_next_one_when_it_got_a_long_one():
    desk, first, second = desk_of(2)
    share = brisk()
    for _ in range(3):
        desk.submit(run_job([Halt()], share))
    assert desk.take(first) is not None
    assert desk.take(second) is None
    long = run_job(FOREVER)
    desk.submit(long)
    assert desk.take(second) is None  # it is not its turn
    assert desk.take(first) is not None
    assert desk.take(first) is not None
    assert desk.take(first) is long
    desk.submit(run_job([Halt()], share))
    assert desk.take(second) is not None


class Posts:
    """An office whose loop is this thread, when it says `deliver`."""

    def __init__(self):
        self.told = []
        self.desk = Desk(Planner(), HostClock(), lambda: None, self.told.append)
        self.desk.workers = [Worker(self.desk)]
        self.thread = threading.Thread(target=self.desk.workers[0].work)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.desk.stop()
        self.thread.join()


def writer(step):
    job = Steps(step, Priority.ADVANCE)
    job.share = brisk()
    return job


def test_a_quick_writer_among_brief_jobs_is_over_when_it_was_handed_in(monkeypatch):
    monkeypatch.setattr("orchestra.sched.desk.LEND_SECONDS", 10.0)
    begun, go = threading.Event(), threading.Event()
    brief = Steps(lambda: (begun.set(), go.wait(10)))
    brief.share = brisk()
    with Posts() as office:
        office.desk.submit(brief)
        begun.wait(10)
        threading.Timer(0.01, go.set).start()
        quick = writer(lambda: True)
        office.desk.submit(quick)
        assert quick.over
        assert office.told == [quick]  # by the loop itself
    office.desk.outbox.deliver()
    assert office.told == [quick, brief]


def test_a_writer_that_is_not_quick_after_all_is_told_as_others_are(monkeypatch):
    monkeypatch.setattr("orchestra.sched.desk.LEND_SECONDS", 0.001)
    begun, go = threading.Event(), threading.Event()
    brief = Steps(lambda: (begun.set(), go.wait(10)))
    brief.share = brisk()
    with Posts() as office:
        office.desk.submit(brief)
        begun.wait(10)
        slow = writer(lambda: True)
        office.desk.submit(slow)
        assert not slow.over
        go.set()
    while office.desk.outbox:
        office.desk.outbox.deliver()
    assert office.told == [slow, brief]
    assert office.desk.precedence.held == 0


def test_answers_wait_while_a_writer_is_at_work_but_not_for_ever():
    clock, told = FakeClock(), []
    desk = Desk(Planner(), clock, lambda: None, told.append)
    desk.workers = [Worker(desk)]
    asked = run_job([Halt()])
    desk.submit(asked)
    desk.workers[0].serve(desk.take(desk.workers[0]))
    assert desk.take(desk.workers[0]) is None
    desk.outbox.flush(desk.workers[0]._batch)
    desk.hold(writer(lambda: True))
    desk.outbox.deliver()
    assert told == []
    clock.advance(PATIENCE_SECONDS)
    desk.outbox.deliver()
    assert told == [asked]


def test_a_worker_sleeps_while_what_came_in_has_to_make_way():
    desk, first = desk_of(1)
    desk.submit(run_job([Halt()]))
    assert desk.take(first) is not None
    held = writer(lambda: True)
    desk.hold(held)
    desk.submit(run_job([Halt()]))
    assert desk.take(first) is None
    sleeper = threading.Thread(target=desk.park, args=(first,))
    sleeper.start()
    sleeper.join(0.05)
    assert sleeper.is_alive()
    desk.release(held)  # wakes it
    sleeper.join(10)
    assert not sleeper.is_alive()
    assert desk.take(first) is not None


def test_many_brief_jobs_wake_one_worker():
    desk, *workers = desk_of(3)
    desk._parked[:] = workers
    for _ in range(10):
        desk.submit(run_job([Halt()], brisk()))
    assert len(desk._parked) == 2
    for _ in range(2):
        desk.submit(run_job(FOREVER))
    assert not desk._parked


def test_a_worker_about_to_sleep_sees_what_came_in_just_now():
    desk, first = desk_of(1)
    desk.submit(run_job([Halt()]))  # wakes nobody: nobody sleeps yet
    sleeper = threading.Thread(target=desk.park, args=(first,), daemon=True)
    sleeper.start()
    sleeper.join(10)
    assert not sleeper.is_alive()


def test_a_job_cancelled_between_slices_ends_next_and_a_long_slice_makes_room_for_that():
    desk, first = desk_of(1)
    first.job = long = run_job(FOREVER)
    others = [run_job(FOREVER) for _ in range(9)]
    for job in others:
        job.state = State.WAITING
        desk.planner.add(job)
    assert desk.cancel(others[-1]) is False
    assert long.interrupting
    assert desk.take(first) is others[-1]
    assert others[-1].state is State.ENDED


def test_a_cancelled_job_in_a_slice_is_interrupted():
    with Office(2) as office:
        job = run_job(FOREVER, pace="host", cycles_per_second=1.0)
        office.desk.submit(job)
        while not (office.desk.running() and office.desk._parked):
            pass  # a free worker is woken, which would not help
        office.desk.cancel(job)
        office.wait(1)
    assert isinstance(job.error, MachineClosed)


def test_who_begins_a_long_slice_wakes_another_for_what_waits():
    desk, first, second = desk_of(2)
    jobs = [run_job([Halt()]) for _ in range(2)]
    for job in jobs:
        desk.submit(job)
    desk._parked.append(second)
    first.serve(desk.take(first))
    assert not desk._parked


def test_the_first_slice_of_what_seems_brief_is_short():
    desk, first = desk_of(1)
    budgets = []

    class Noting(Steps):
        __slots__ = ()

        def step(self, max_cycles, max_seconds):
            budgets.append(max_cycles)
            return True

    job = Noting(None)
    job.share = brisk()
    desk.submit(job)
    first.serve(desk.take(first))
    assert budgets == [desk.planner.slice_cycles(job) // 8]
