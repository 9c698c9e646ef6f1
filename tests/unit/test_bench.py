"""The pure parts of scripts/bench: what is compared with what, and how it is written down.

A benchmark whose arithmetic is wrong, or that takes wrong data for an answer, is worse than none.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from scripts.bench_parts import (
    cells,
    contestants,
    estimate,
    goals,
    nginx,
    notes,
    patterns,
    plan,
    plot,
    report,
    results,
    rounds,
    stats,
)
from scripts.bench_parts.build import build
from scripts.bench_parts.datasets import ALL
from scripts.bench_parts.errors import BenchError
from scripts.bench_parts.results import DONE, FAILED, OVER, WRONG, Result, Run
from scripts.bench_parts.stats import Cell, Table

PEERS: dict[str, tuple[str, ...]] = {"best peer": ("rclone", "s3fs-fuse")}
ABOUT: dict[str, Any] = {
    "arguments": " --quick",
    "date": "2026-11-23 08:35 UTC",
    "zarrfuse": "0.1.0, commit abc",
    "rounds": 2,
    "rounds_at_0": 2,
    "peer_rounds": 2,
    "peer_deadline_s": 60.0,
    "machine": "2 cores",
    "versions": "Python",
    "datasets": ["v3"],
}


def row(
    contestant: str,
    seconds: float | None,
    number: int = 1,
    *,
    outcome: str = DONE,
    state: str = "cold",
    session: str = "row",
    opened: float | None = None,
    **others: Any,
) -> Result:
    return Result(
        number,
        50.0,
        session,
        state,
        contestant,
        outcome,
        seconds,
        open_seconds=opened,
        **{
            "requests": 400,
            "bytes": 246_000_000,
            "peak_rss": 300 << 20,
            "cpu_seconds": 1.5,
            **others,
        },
    )


def cell(contestant: str, measure: str = "row cold") -> Cell:
    return Cell(50.0, measure, contestant)


# --- medians, quartiles, ratios ------------------------------------------------------------------


def test_quartiles_are_those_of_the_values_themselves() -> None:
    spread = stats.spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert spread is not None
    assert (spread.low, spread.median, spread.high, spread.count) == (2.0, 3.0, 4.0, 5)


def test_one_value_is_its_own_quartiles_and_none_is_none() -> None:
    assert stats.spread([2.0]) == stats.Spread(2.0, 2.0, 2.0, 1)
    assert stats.spread([]) is None


def test_the_discarded_round_does_not_count() -> None:
    table = Table([row("ext4", 100.0, 0), row("ext4", 2.0, 1), row("ext4", 4.0, 2)])
    found = table.spread(cell("ext4"))
    assert found is not None
    assert (found.median, found.count) == (3.0, 2)


def test_ratios_are_paired_by_round_and_not_ratios_of_medians() -> None:
    # Round 2 was slow for everybody: both were disturbed alike.
    ours = [row("zarrfuse", s, n) for n, s in enumerate((2.0, 20.0, 3.0), 1)]
    local = [row("ext4", s, n) for n, s in enumerate((1.0, 10.0, 1.0), 1)]
    found = Table([*ours, *local]).ratio(cell("zarrfuse"), [cell("ext4")])
    assert found is not None
    assert found.median == 2.0
    assert found.count == 3


def test_the_best_peer_is_the_best_of_the_same_round() -> None:
    rows = [row("zarrfuse", 1.0, n) for n in (1, 2)]
    rows += [row("rclone", 10.0, 1), row("rclone", 40.0, 2)]
    rows += [row("s3fs-fuse", 30.0, 1), row("s3fs-fuse", 20.0, 2)]
    found = Table(rows).ratio(cell("zarrfuse"), [cell("rclone"), cell("s3fs-fuse")])
    assert found is not None
    assert found.low == pytest.approx(1 / 20 + (1 / 10 - 1 / 20) / 4)
    assert found.median == pytest.approx((1 / 10 + 1 / 20) / 2)


def test_a_round_without_its_pair_is_left_out() -> None:
    rows = [row("zarrfuse", 1.0, 1), row("zarrfuse", 9.0, 2), row("ext4", 2.0, 1)]
    found = Table(rows).ratio(cell("zarrfuse"), [cell("ext4")])
    assert found is not None
    assert (found.median, found.count) == (0.5, 1)


def test_a_passed_deadline_is_a_bound_and_says_so() -> None:
    rows = [row("zarrfuse", 2.0), row("rclone", 300.0, outcome=OVER)]
    table = Table(rows)
    over = table.spread(cell("rclone"))
    ratio = table.ratio(cell("zarrfuse"), [cell("rclone")])
    assert over is not None and ratio is not None
    assert (over.bound, ratio.bound) == (">", "<")
    assert cells.shown(over) == ">300"


def test_a_peer_over_its_deadline_is_no_best_peer_when_another_was_done() -> None:
    rows = [row("zarrfuse", 2.0), row("rclone", 50.0, outcome=OVER), row("s3fs-fuse", 60.0)]
    found = Table(rows).ratio(cell("zarrfuse"), [cell("rclone"), cell("s3fs-fuse")])
    assert found is not None
    # rclone took more than 50: whether that is more than 60 is not known.
    assert found.bound == "<"


def test_wrong_and_failed_results_have_no_time() -> None:
    table = Table([row("zarrfuse", 0.1, outcome=WRONG), row("rclone", None, outcome=FAILED)])
    assert table.spread(cell("zarrfuse")) is None
    assert table.ratio(cell("zarrfuse"), [cell("rclone")]) is None


# --- the goals -----------------------------------------------------------------------------------


def verdict(found: list[goals.Verdict], beginning: str) -> goals.Verdict:
    return next(one for one in found if one.goal.startswith(beginning))


def test_goals_are_met_at_their_limits_and_missed_beyond() -> None:
    rows = [row("zarrfuse", 3.0), row("ext4", 2.0), row("rclone", 45.0)]
    found = goals.verdicts(Table(rows), PEERS, "zarrfuse")
    assert verdict(found, "cold scan, row-major: a loop over time: to ext4").met
    assert verdict(found, "cold scan, row-major: a loop over time (1 in flight)").met
    rows[0] = row("zarrfuse", 4.5)
    found = goals.verdicts(Table(rows), PEERS, "zarrfuse")
    missed = verdict(found, "cold scan, row-major: a loop over time: to ext4")
    slow = verdict(found, "cold scan, row-major: a loop over time (1 in flight)")
    assert (missed.met, missed.miss) == (False, "by 1.5 x")
    assert (slow.met, slow.miss) == (False, "by 1.5 x")


def test_round_trips_of_an_open_have_a_limit() -> None:
    rows = [row("zarrfuse", 3.0, opened=0.32, open_rounds=6)]
    found = verdict(goals.verdicts(Table(rows), PEERS, "zarrfuse"), "cold open_zarr")
    assert found.reached is not None
    assert (found.reached.median, found.met) == (6.0, False)


def test_a_peer_that_was_ended_proves_a_speed_up_and_never_refutes_one() -> None:
    beginning = "cold scan, row-major: a loop over time (1 in flight)"
    rows = [row("zarrfuse", 2.0), row("rclone", 60.0, outcome=OVER)]
    found = verdict(goals.verdicts(Table(rows), PEERS, "zarrfuse"), beginning)
    assert found.met
    assert cells.shown(found.reached) == ">30.0"
    rows[0] = row("zarrfuse", 6.0)
    assert verdict(goals.verdicts(Table(rows), PEERS, "zarrfuse"), beginning).met is None


def test_a_long_listing_may_take_a_second_more_than_its_pages() -> None:
    def listed(us: str, ours: float) -> bool | None:
        rows = [row(us, ours, session="ls-50000"), row("list-pages", 2.0, session="ls-50000")]
        return verdict(goals.verdicts(Table(rows), PEERS, us), "ls -l of 50 000").met

    assert (listed("zarrfuse", 3.9), listed("zarrfuse", 4.1)) == (True, False)
    assert (listed("zarrfuse-fusepy", 6.9), listed("zarrfuse-fusepy", 7.1)) == (True, False)


def test_a_random_reader_is_judged_by_bytes_and_by_time() -> None:
    rows = [row("zarrfuse", 5.0, session="random", bytes=75_000_000)]
    rows += [row("zarrfuse-noprefetch", 4.9, session="random", bytes=60_000_000)]
    found = goals.verdicts(Table(rows), PEERS, "zarrfuse")
    title = "a quarter of the chunks, at random"
    assert verdict(found, f"{title}: bytes").met is False
    assert verdict(found, f"{title}: time").met
    rows[0] = row("zarrfuse", 5.0, session="random", bytes=72_000_000)
    assert verdict(goals.verdicts(Table(rows), PEERS, "zarrfuse"), f"{title}: bytes").met


def test_small_random_reads_may_not_drag_megabytes_along() -> None:
    for received, met in ((200 << 20, True), (201 << 20, False)):
        rows = [row("zarrfuse", 5.0, session="random4k", bytes=received)]
        found = verdict(goals.verdicts(Table(rows), PEERS, "zarrfuse"), "1 GiB file, random 4 KiB")
        assert found.met is met


def test_memory_is_judged_by_the_keys_that_are_known() -> None:
    def judged(peak_mib: int, keys: int | None) -> bool | None:
        rows = [row("zarrfuse", 3.0, peak_rss=peak_mib << 20, known_keys=keys)]
        return verdict(goals.verdicts(Table(rows), PEERS, "zarrfuse"), "peak RSS").met

    # 150 MiB, 256 in memory, 128 fetched ahead; a million keys are 238 MiB more.
    assert (judged(534, None), judged(535, None)) == (True, False)
    assert (judged(772, 1_000_000), judged(773, 1_000_000)) == (True, False)


def test_what_was_not_measured_has_no_verdict() -> None:
    assert goals.verdicts(Table([row("ext4", 2.0)]), PEERS, "zarrfuse") == []


# --- the report ----------------------------------------------------------------------------------


def rendered(rows: list[Result]) -> str:
    found = {"zarrfuse": goals.verdicts(Table(rows), PEERS, "zarrfuse")}
    names = [("zarrfuse", "ours"), ("ext4", "local"), ("rclone", "a peer")]
    return report.render(
        [Run(ABOUT, rows)],
        found,
        contestants=names,
        us=["zarrfuse"],
        peers=PEERS,
        plot="b.png",
        reasons={"cold scan, row-major: a loop over time: to ext4": "disks are fast"},
    )


def test_the_report_names_times_ratios_and_goals() -> None:
    rows = [row("zarrfuse", s, n, opened=0.3) for n, s in enumerate((3.0, 4.0), 1)]
    rows += [row("ext4", 2.0, n, opened=0.02) for n in (1, 2)]
    rows += [row("rclone", 40.0, n, opened=1.0) for n in (1, 2)]
    text = rendered(rows)
    assert "| row-major: a loop over time, cold | 3.50 (3.25-3.75) | 2.00 (2.00-2.00) |" in text
    assert "| row-major: a loop over time, cold | 1.75 (1.62-1.88) | 0.087 " in text
    assert "open_zarr before: row-major" in text
    assert "at most 1.5 times | 1.75 (1.62-1.88) | **missed** by 1.2 x |" in text
    assert "400, 246.0 MB, 1.50 s, 300 MiB" in text
    assert "1.2 x, because disks are fast" in text
    assert "| read it in a loop over time (400 chunks, 246 MB) | 3.50 | 2.00 | 40.0 |" in text
    assert "| 2026-11-23 08:35 UTC | 0.1.0, commit abc | row (50 ms) |" in text
    assert "![" in text and "FAILED" not in text


def test_every_table_of_the_report_has_as_many_cells_as_its_head() -> None:
    rows = [row("zarrfuse", 3.0, opened=0.3), row("ext4", 2.0, opened=0.02), row("rclone", 40.0)]
    rows += [row("rclone", None, outcome=FAILED, session="dask", text="a | b")]
    width = None
    for line in rendered(rows).splitlines():
        if not line.startswith("|"):
            width = None
            continue
        width = width or line.count("|")
        assert line.count("|") == width, line


def test_wrong_data_are_the_first_thing_that_is_said() -> None:
    rows = [row("rclone", 1.0, outcome=WRONG, text="read x, right is y"), row("ext4", 2.0)]
    text = rendered(rows)
    assert text.index("THIS BENCHMARK FAILED") < text.index("## ")
    assert "WRONG DATA" in text


def test_no_path_of_the_machine_gets_into_the_report() -> None:
    rows = [row("rclone", None, outcome=FAILED, text="cannot open /home/me/secret/x: no such file")]
    text = rendered(rows)
    assert "cannot open ... no such file" in text
    assert "/home" not in text


def test_results_survive_their_file(tmp_path: Path) -> None:
    rows = [row("zarrfuse", 3.0, opened=0.3), row("rclone", None, outcome=FAILED, text="why")]
    results.save([Run(ABOUT, rows)], tmp_path / "r.json")
    assert results.load(tmp_path / "r.json") == [Run(ABOUT, rows)]
    (tmp_path / "r.json").write_text('{"about": {}, "results": []}')
    with pytest.raises(BenchError, match="another version"):
        results.load(tmp_path / "r.json")


def test_a_later_run_replaces_whole_jobs_and_keeps_the_others() -> None:
    first = Run(
        {"run": 1}, [row("zarrfuse", 3.0), row("ext4", 2.0), row("ext4", 1.0, session="dask")]
    )
    again = Run({"run": 2}, [row("zarrfuse", 9.0, 0, session="dask"), row("zarrfuse", 2.5)])
    joined = results.joined([first], again)
    assert [run.about["run"] for run in joined] == [1, 2]
    assert [(r.contestant, r.session) for r in joined[0].results] == [("ext4", "dask")]
    # The discarded round alone has measured nothing yet.
    nothing = Run({"run": 3}, [row("zarrfuse", 9.0, 0)])
    assert results.joined([first], nothing) == [first]


def test_the_longest_beginning_of_a_goal_gives_the_reason() -> None:
    reasons = {"cold scan": "a", "cold scan, dask": "b", "zarrfuse-fusepy: cold scan": "c"}
    assert notes.reason(reasons, "zarrfuse", "cold scan, dask default order: to ext4") == "b"
    assert notes.reason(reasons, "zarrfuse", "cold scan, tiles") == "a"
    assert notes.reason(reasons, "zarrfuse-fusepy", "cold scan, dask default order") == "c"
    assert notes.reason(reasons, "zarrfuse", "warm cat: to ext4") is None


def test_the_picture_is_drawn_where_there_is_something_to_show(tmp_path: Path) -> None:
    path = tmp_path / "b.png"
    rows = [row("zarrfuse", 3.0), row("rclone", 300.0, outcome=OVER)]
    assert plot.draw(Table(rows), ["zarrfuse", "rclone"], 50.0, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert not plot.draw(Table([]), ["zarrfuse"], 50.0, tmp_path / "none.png")


# --- the proxy -----------------------------------------------------------------------------------


def test_the_log_tells_what_a_job_asked_and_what_missed_the_cache() -> None:
    lines = [
        "1000.500 0.050 200 600200 HIT GET /b/data.zarr/v/c/0/0/0",
        "1001.000 0.050 404 300 MISS HEAD /b/data.zarr/zarr.json?x=a b",
        "1002.000 0.060 503 100 - GET /b?list-type=2",
    ]
    requests = nginx.parse_log("\n".join(lines) + "\n1003.000 0.0")
    assert nginx.traffic(requests) == nginx.Traffic(requests=3, bytes=600600, missed=2, errors=1)
    assert nginx.traffic(requests, before=1000.46).requests == 1
    assert requests[1].uri.endswith("a b")


def test_round_trips_are_requests_one_after_the_other() -> None:
    spans = [(0, 5), (1, 6), (5, 10), (6, 7), (11, 16), (30, 35)]
    requests = [nginx.Request(a, b, 200, 1, True, "GET", "/") for a, b in spans]
    assert nginx.in_a_row(requests, before=20) == 3
    assert nginx.in_a_row(requests, before=40) == 4
    assert nginx.in_a_row([], before=40) == 0


def test_only_slow_ports_wait_and_only_cached_ports_keep() -> None:
    ports = [nginx.Port(1001, 0.0, True), nginx.Port(1002, 50.0, False)]
    text = nginx.configuration("127.0.0.1:8080", ports, as_root=False)
    fast, slow = text.split("  server {\n")[1:]
    assert "ngx.sleep" not in fast and "proxy_cache c" in fast
    assert "ngx.sleep(0.05)" in slow and "proxy_cache" not in slow


# --- what is read --------------------------------------------------------------------------------

VALUES = np.arange(10 * 20 * 30, dtype="f4").reshape(10, 20, 30)


@pytest.mark.parametrize("pattern", sorted(patterns.SCANS))
def test_a_single_wrong_value_changes_the_digest(pattern: str) -> None:
    wrong = VALUES.copy()
    wrong[patterns.at_random(10)[0], 10, 15] = -1
    right = patterns.scan(pattern, xr.DataArray(VALUES))
    assert patterns.scan(pattern, xr.DataArray(VALUES.copy())) == right
    assert patterns.scan(pattern, xr.DataArray(wrong)) != right


def test_swapped_chunks_change_the_digest_and_the_order_of_reading_does_not() -> None:
    array = xr.DataArray(VALUES)
    right = patterns.scan("row", array)
    assert {patterns.scan(p, array) for p in ("reverse", "dask")} == {right}
    assert patterns.scan("row", xr.DataArray(VALUES[::-1].copy())) != right


def test_a_random_reader_reads_a_part_that_is_always_the_same() -> None:
    chosen = patterns.at_random(400)
    assert len(set(chosen)) == len(chosen) == 100
    assert chosen == patterns.at_random(400) != sorted(chosen)
    assert patterns.chunk_order("random", [str(n) for n in range(400)]) == chosen


def test_reverse_is_the_order_of_strings_as_dask_has_it() -> None:
    names = [f"v/c/{i}" for i in range(12)]
    order = [names[i] for i in patterns.chunk_order("reverse", names)]
    assert order[:4] == ["v/c/9", "v/c/8", "v/c/7", "v/c/6"]
    assert patterns.chunk_order("row", names) == list(range(12))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_chunk_names_are_those_that_zarr_writes(zarr_format: int, tmp_path: Path) -> None:
    shape, chunks = (4, 20, 30), (1, 10, 30)
    made = dataclasses.replace(ALL["v3"], shape=shape, chunks=chunks, zarr_format=zarr_format)
    right = build(made, tmp_path)
    store = tmp_path / "data.zarr"
    assert all((store / name).is_file() for name in made.chunk_names())
    written = zarr.open_array(str(store), path="v", mode="r")
    assert written.nchunks == len(made.chunk_names())
    opened = xr.open_zarr(str(store), chunks=None)
    assert patterns.scan("row", opened["v"]) == right["scan row"]


# --- the plan ------------------------------------------------------------------------------------


def test_every_session_reads_a_data_set_that_has_its_digest() -> None:
    for session in plan.PLAN:
        dataset = ALL[session.dataset]
        if session.kind == "scan":
            assert session.pattern in dataset.scans
        if session.kind == "cat":
            assert session.pattern in dataset.cats


def test_only_takes_contestants_and_jobs_and_refuses_the_rest() -> None:
    known = ["zarrfuse", "ext4"]
    assert plan.choose([], known, quick=False) == plan.Choice(("zarrfuse", "ext4"), plan.PLAN)
    chosen = plan.choose(["ext4", "random"], known, quick=True)
    assert chosen.contestants == ("ext4",)
    assert [session.name for session in chosen.sessions] == ["random"]
    assert all(session.quick for session in plan.choose([], known, quick=True).sessions)
    with pytest.raises(BenchError, match="unknown rclon;"):
        plan.choose(["rclon"], known, quick=True)
    usual = plan.choose([], known, quick=True, usual=["ext4"])
    assert usual.contestants == ("ext4",)


FULL = rounds.Extent(rounds=7, rounds_at_0=3, peer_rounds=1, deadline_s=300.0, peer_deadline_s=60.0)


def planned(extent: rounds.Extent) -> list[Result]:
    choice = plan.choose([], list(contestants.ALL), quick=False)
    return list(rounds.steps(choice, [0.0, 50.0], extent))


def numbers(steps: list[Result], contestant: str, session: str, latency: float) -> list[int]:
    wanted = (contestant, session, latency, "cold")
    return [s.round for s in steps if (s.contestant, s.session, s.latency_ms, s.state) == wanted]


def test_each_contestant_takes_part_in_the_rounds_that_are_meant_for_it() -> None:
    steps = planned(FULL)
    assert numbers(steps, "zarrfuse", "row", 50.0) == [1, 2, 3, 4, 5, 6, 7]
    assert numbers(steps, "zarrfuse", "row", 0.0) == [0, 1, 2, 3]
    assert numbers(steps, "obstore", "sequential", 50.0) == [1, 2, 3, 4, 5, 6, 7]
    assert numbers(steps, "obstore", "row", 50.0) == [1]
    assert numbers(steps, "rclone", "row", 50.0) == [1]
    assert numbers(steps, "rclone", "row", 0.0) == [0, 1]
    assert numbers(steps, "rclone", "tiles", 0.0) == [0]
    assert numbers(steps, "zarrfuse", "small", 50.0) == [1, 2, 3]
    assert numbers(steps, "rclone", "dask", 0.0) == []
    assert numbers(steps, "rclone", "small", 50.0) == []
    assert numbers(steps, "zarrfuse-noprefetch", "random", 50.0) == [1, 2, 3, 4, 5, 6, 7]
    assert numbers(steps, "zarrfuse-noprefetch", "row", 50.0) == []


def test_peers_in_all_rounds_are_treated_like_everyone_else() -> None:
    steps = planned(dataclasses.replace(FULL, peer_rounds=7))
    assert numbers(steps, "rclone", "small", 50.0) == [1, 2, 3]
    assert numbers(steps, "rclone", "dask", 0.0) == [0, 1, 2, 3]


def test_an_estimate_goes_by_what_was_measured_and_by_deadlines() -> None:
    steps = [row("zarrfuse", None), row("rclone", None), row("ext4", None)]
    before = estimate.known([row("zarrfuse", 2.0, n, took_s=4.0 + n) for n in (0, 1, 2)])
    assert estimate.seconds(steps[:1], before, FULL) == 5.0
    assert estimate.seconds(steps[1:2], before, FULL) > 30.0
    impatient = dataclasses.replace(FULL, peer_deadline_s=20.0)
    assert 20.0 < estimate.seconds(steps[1:2], before, impatient) < 30.0
    assert estimate.seconds(steps[:1], before, impatient) == 5.0
