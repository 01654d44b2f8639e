"""The scheduling policy, driven by a simulated clock and a table of what the n-th attempt at a video does."""

import heapq
from collections import Counter

import pytest

from pipeline.labels.failures import Attempt
from pipeline.workers.scheduler import Abort, Assign, Kill, Kind, Limits, Quarantine, Scheduler, Start, Stop


class Simulation:
    """Workers that take `cost` seconds a video. `faults[video]` lists what its first, second, ... attempt does.

    A fault is "ok", "hang", a cause that the worker reports, or "die:CAUSE", which ends the worker.
    """

    def __init__(
        self,
        costs,
        *,
        faults=None,
        starts=None,
        kinds=(),
        speeds=None,
        smallest=None,
        priorities=None,
        copies=None,
        **limits,
    ):
        self.limits = Limits(kinds=kinds, **limits) if kinds else Limits.of(**limits)
        held = {index for others in (copies or {}).values() for index in others}
        order = [index for index in range(len(costs)) if index not in held]
        self.scheduler = Scheduler(
            order, costs, limits=self.limits, smallest=smallest, priorities=priorities, copies=copies
        )
        self.speeds, self.who = speeds or {}, {}  # cost per second, and videos in the order of assignment, by kind
        self.costs, self.faults, self.starts = (
            costs,
            faults or {},
            starts if isinstance(starts, set) else list(starts or []),
        )
        self.now, self.events, self.attempts_at, self.tick = 0.0, [], Counter(), 0
        self.done, self.quarantined, self.started, self.stopped = [], {}, [], []
        self.alone = []  # videos that ran with nothing beside them, from start to end

    def later(self, delay, *event):
        self.tick += 1
        heapq.heappush(self.events, (self.now + delay, self.tick, event))

    def attempt(self, cause):
        return Attempt(cause, cause, "", "w", self.now)

    def run(self, until=1e6):
        while self.now < until:
            for action in self.scheduler.decide(self.now):
                match action:
                    case Start(worker):
                        self.started.append(worker)
                        self.later(1, self.start(worker), worker)
                    case Assign(worker, index):
                        self.assign(worker, index)
                    case Stop(worker):
                        self.stopped.append(worker)
                    case Kill(worker, _):
                        self.scheduler.worker_died(worker, self.attempt("deadline"), self.now)
                    case Quarantine(index, attempts):
                        self.quarantined[index] = [attempt.cause for attempt in attempts]
                    case Abort(reason):
                        raise RuntimeError(reason)
            if self.scheduler.over:
                return self
            if self.events:
                self.now, _, (event, worker, *index) = heapq.heappop(self.events)
                if worker in self.scheduler.workers:
                    self.handle(event, worker, *index)
            else:
                self.now += 1
        raise AssertionError("the simulation does not end")

    def start(self, worker):
        if isinstance(self.starts, set):  # names of kinds that cannot start
            return "broken" if worker.partition("-")[0] in self.starts else "ready"
        return self.starts.pop(0) if self.starts else "ready"

    def assign(self, worker, index):
        self.attempts_at[index] += 1
        kind = self.limits.kinds[self.scheduler.workers[worker].kind].name
        self.who.setdefault(kind, []).append(index)
        plan = self.faults.get(index, [])
        what = plan[self.attempts_at[index] - 1] if self.attempts_at[index] <= len(plan) else "ok"
        if len(self.scheduler.workers[worker].in_flight) == 1 and self.scheduler.workers[worker].solo:
            self.alone.append(index)
        if what != "hang":
            self.later(self.costs[index] / self.speeds.get(kind, 1), what, worker, index)

    def handle(self, event, worker, index=None):
        if event == "ready":
            self.scheduler.worker_ready(worker)
        elif event == "broken":
            self.scheduler.worker_failed_to_start(worker, "no such model")
        elif event == "ok":
            self.scheduler.finished(worker, index, self.now)
            self.done.append(index)
        elif event.startswith("die:"):
            self.scheduler.worker_died(worker, self.attempt(event[4:]), self.now)
        else:
            self.scheduler.failed(worker, index, self.attempt(event), self.now)


def test_every_video_is_labelled_once_in_the_order_given():
    run = Simulation([5, 4, 3, 2, 1], workers=1).run()
    assert run.done == [0, 1, 2, 3, 4]
    assert set(run.attempts_at.values()) == {1}


def test_few_videos_are_spread_over_workers_before_any_is_queued():
    run = Simulation([10, 10], workers=2, in_flight=4).run()
    assert run.now == pytest.approx(11)


def test_no_video_is_queued_behind_the_most_expensive_one():
    scheduler = Scheduler(range(6), [60, 5, 4, 3, 2, 1], limits=Limits.of(workers=3, in_flight=2))
    given = {}
    for start in scheduler.decide(0.0):
        scheduler.worker_ready(start.worker)
        for action in scheduler.decide(0.0):  # the others are still starting
            given.setdefault(action.worker, []).append(action.index)
    assert list(given.values()) == [[0], [1, 2], [3, 4]]
    (after_its_end,) = [name for name, videos in given.items() if videos == [0]]
    scheduler.finished(after_its_end, 0, 60.0)
    assert scheduler.decide(60.0)[0] == Assign(after_its_end, 5)


@pytest.mark.parametrize(
    ("cause", "tries"), [("decode", 1), ("prompt", 1), ("exception", 2), ("storage", 3), ("oom", 2)]
)
def test_a_video_is_attempted_as_often_as_its_cause_allows(cause, tries):
    run = Simulation([3, 3, 3], faults={1: [cause] * 9}, workers=1).run()
    assert run.quarantined == {1: [cause] * tries}
    assert run.attempts_at == {0: 1, 1: tries, 2: 1}


def test_storage_failures_are_retried_with_growing_delays():
    run = Simulation([1], faults={0: ["storage", "storage", "ok"]}, workers=1).run()
    assert run.done == [0]
    assert run.now >= 1 + 3 + 5 + 10


def test_a_worker_death_with_one_video_in_flight_is_charged_to_it():
    run = Simulation([3, 3, 3], faults={1: ["die:killed"] * 9}, workers=1).run()
    assert run.quarantined == {1: ["killed", "killed"]}
    assert run.attempts_at == {0: 1, 1: 2, 2: 1}
    assert len(run.started) == 3


def test_suspects_run_alone_so_only_the_video_at_fault_is_charged():
    run = Simulation([4, 3, 2, 1, 1], faults={1: ["die:killed"] * 9}, workers=1, in_flight=3).run()
    assert run.quarantined == {1: ["killed", "killed"]}
    assert sorted(run.done) == [0, 2, 3, 4]
    assert 1 in run.alone
    assert run.attempts_at[1] == 3  # once beside others, then alone until its two attempts are used up


def test_other_videos_continue_while_suspects_wait_for_a_new_worker():
    run = Simulation([9] * 4 + [1] * 38, faults={0: ["hang"], 2: ["die:killed"]}, workers=2, in_flight=2)
    run.starts = ["ready", "ready", "slow"]
    handle, ends = run.handle, {}

    def notice(event, worker, index=None):
        if event == "slow":
            run.later(100, "ready", worker)
            return
        if event == "ok":
            ends[index] = run.now
        handle(event, worker, index)

    run.handle = notice
    run.scheduler.limits = run.limits = Limits.of(workers=2, in_flight=2, deadline_floor_s=300)
    run.run()
    assert sorted(run.done) == list(range(42))
    in_time = [index for index in range(42) if ends[index] < 100]
    assert len(in_time) == 39, "all but the hanging one and the two suspects finish beside the hanging one"


def test_a_lost_node_charges_no_video():
    run = Simulation([3, 3], faults={0: ["die:node"] * 5}, workers=1, in_flight=2).run()
    assert sorted(run.done) == [0, 1]
    assert run.quarantined == {}
    assert run.attempts_at[0] == 6


def test_a_hanging_video_is_stopped_at_its_deadline():
    run = Simulation([3, 3], faults={0: ["hang"] * 5}, workers=1, deadline_floor_s=50).run()
    assert run.quarantined == {0: ["deadline", "deadline"]}
    assert run.done == [1]
    assert run.now < 200


def test_the_deadline_is_ten_times_the_slowest_pace_above_a_floor():
    scheduler = Simulation([3, 6], workers=1, deadline_floor_s=10).run().scheduler
    assert scheduler.deadline_s(0.5) == 10
    assert scheduler.deadline_s(100) == pytest.approx(1000)


def test_three_consecutive_start_failures_end_the_run():
    run = Simulation([1] * 5, starts=["broken"] * 9, workers=1)
    with pytest.raises(RuntimeError, match="no such model"):
        run.run()
    assert len(run.started) == 3


def test_start_failures_are_reset_by_a_successful_start():
    run = Simulation([1] * 5, starts=["broken", "broken", "ready"], workers=1).run()
    assert len(run.done) == 5


def test_workers_without_videos_are_stopped():
    run = Simulation([9, 1, 1], workers=3).run()
    assert len(run.stopped) >= 2
    assert run.now == pytest.approx(10)


def test_a_draining_worker_finishes_and_gets_no_new_video():
    run = Simulation([5, 5, 5], workers=1)
    run.later(2, "drain", "worker-0")
    run.handle = lambda event, worker, index=None, handle=run.handle: (
        run.scheduler.worker_draining(worker) if event == "drain" else handle(event, worker, index)
    )
    run.run()
    assert run.done == [0, 1, 2]
    assert len(run.started) == 2
    assert "worker-0" in run.stopped


def test_after_stop_only_videos_in_flight_finish():
    run = Simulation([5, 5, 5], workers=1)
    run.later(2, "stop", "worker-0")
    run.handle = lambda event, worker, index=None, handle=run.handle: (
        run.scheduler.stop() if event == "stop" else handle(event, worker, index)
    )
    run.run()
    assert run.done == [0]
    assert run.scheduler.waiting == 2


def test_makespan_of_64_workers_is_within_5_percent_of_the_bound():
    costs = sorted((2 * (1 - (i + 0.5) / 3000) ** (-1 / 1.8) for i in range(3000)), reverse=True)
    run = Simulation(costs, workers=64, in_flight=1).run()
    bound = max(sum(costs) / 64, costs[0])
    assert run.now - 1 <= 1.05 * bound


def fleet(small=2, large=1, in_flight=1):
    return (
        Kind(name="small", workers=small, in_flight=in_flight),
        Kind(name="large", workers=large, in_flight=in_flight),
    )


def test_the_largest_kind_takes_expensive_videos_and_smaller_kinds_cheap_ones():
    costs = sorted((2 * (1 - (i + 0.5) / 300) ** (-1 / 1.8) for i in range(300)), reverse=True)
    run = Simulation(costs, kinds=fleet(small=4, large=2), speeds={"large": 4}).run()
    assert sorted(run.done) == list(range(300))
    assert set(run.attempts_at.values()) == {1}
    assert run.who["large"] == sorted(run.who["large"])
    assert max(run.who["large"]) - min(run.who["small"]) < 12, "they meet in one place of the order"
    bound = max(sum(costs) / (4 + 2 * 4), costs[0] / 4)
    assert run.now - 1 <= 1.1 * bound


def test_a_video_too_large_for_a_kind_never_runs_on_it():
    needs_large = [index % 5 == 0 for index in range(40)]
    run = Simulation([1] * 40, kinds=fleet(), smallest=[int(need) for need in needs_large]).run()
    assert sorted(run.done) == list(range(40))
    assert not any(needs_large[index] for index in run.who["small"])
    assert set(run.who["large"]) >= {index for index in range(40) if needs_large[index]}


def test_a_video_that_ran_out_of_memory_is_retried_on_a_larger_kind():
    run = Simulation([3] * 9, kinds=fleet(), faults={8: ["oom"], 7: ["die:oom"]}).run()
    assert sorted(run.done) == list(range(9))
    assert {7, 8} <= set(run.who["small"])
    assert {7, 8} <= set(run.who["large"])
    assert run.quarantined == {}


@pytest.mark.parametrize("in_flight", [1, 3])
def test_only_memory_failures_on_the_largest_kind_lead_to_quarantine(in_flight):
    run = Simulation([3] * 9, kinds=fleet(in_flight=in_flight), faults={8: ["oom"] * 9}).run()
    assert run.quarantined == {8: ["oom"] * 3}
    assert (run.who["small"].count(8), run.who["large"].count(8)) == (1, 2)
    assert sorted(run.done) == list(range(8))


def test_other_failures_are_counted_alike_on_all_kinds():
    run = Simulation([3] * 9, kinds=fleet(), faults={8: ["exception"] * 9, 0: ["die:killed"] * 9}).run()
    assert run.quarantined == {8: ["exception"] * 2, 0: ["killed"] * 2}


@pytest.mark.parametrize("broken", ["small", "large"])
def test_a_kind_that_cannot_start_leaves_its_videos_to_the_others(broken):
    run = Simulation([1] * 20, kinds=fleet(), starts={broken}, smallest=[index % 2 for index in range(20)]).run()
    assert sorted(run.done) == list(range(20))
    assert set(run.who) == {"small", "large"} - {broken}
    assert sum(worker.startswith(broken) for worker in run.started) <= 4


def test_the_run_ends_when_no_kind_can_start():
    with pytest.raises(RuntimeError, match="no such model"):
        Simulation([1] * 20, kinds=fleet(), starts={"small", "large"}).run()


def test_priority_comes_before_cost_on_every_kind():
    priorities = [2] * 10 + [1] * 10
    run = Simulation([*range(20, 10, -1), *range(30, 20, -1)], kinds=fleet(), priorities=priorities).run()
    for videos in run.who.values():
        assert [priorities[index] for index in videos] == sorted((priorities[index] for index in videos), reverse=True)
    assert run.who["small"][0] == 9, "the cheapest one of the highest priority"


def test_suspects_of_a_large_kind_run_alone_on_it():
    run = Simulation(
        [4] * 12, kinds=fleet(in_flight=3), smallest=[1] * 6 + [0] * 6, faults={2: ["die:killed"] * 9}
    ).run()
    assert run.quarantined == {2: ["killed", "killed"]}
    assert sorted(run.done) == [index for index in range(12) if index != 2]
    assert 2 not in run.who["small"]


def test_duplicates_wait_until_the_video_that_they_equal_is_labelled():
    run = Simulation([9, 1, 1, 9, 9], workers=2, copies={0: [3, 4]}).run()
    assert sorted(run.done) == [0, 1, 2, 3, 4]
    assert min(run.done.index(3), run.done.index(4)) > run.done.index(0)
    assert [run.scheduler.source(index) for index in range(5)] == [None, None, None, 0, 0]
    assert set(run.attempts_at.values()) == {1}


def test_a_duplicate_takes_the_place_of_a_video_in_quarantine():
    run = Simulation([9, 1, 9, 9, 9], workers=2, copies={0: [2, 3, 4]}, faults={0: ["decode"], 2: ["decode"]}).run()
    assert run.quarantined == {0: ["decode"], 2: ["decode"]}
    assert run.done == [1, 3, 4]
    assert [run.scheduler.source(index) for index in (2, 3, 4)] == [None, None, 3]


def test_duplicates_survive_the_death_of_the_worker_of_the_first():
    run = Simulation([9, 9, 9], workers=1, in_flight=2, copies={0: [1]}, faults={0: ["die:killed"]}).run()
    assert sorted(run.done) == [0, 1, 2]
    assert run.scheduler.source(1) == 0


def test_a_stop_leaves_duplicates_waiting():
    run = Simulation([5, 5, 5], workers=1, copies={0: [2]})
    run.later(2, "stop", "worker-0")
    run.handle = lambda event, worker, index=None, handle=run.handle: (
        run.scheduler.stop() if event == "stop" else handle(event, worker, index)
    )
    run.run()
    assert run.done == [0]
    assert run.scheduler.waiting == 2
