"""Whatever hosts do, every row is settled, and no host waits for another."""

import collections
import re
import time

import pytest
from servers import KINDS, Misbehaving

from commoncanvas.catalog import answers, hosts
from commoncanvas.catalog.downloads import SETTLED, failures, fetch_pictures, verify

QUICK = {"timeout": 1, "backoff": 0.01, "max_bytes": 100_000, "retries": 1}


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "*")
        with Misbehaving() as server:
            yield server


def rows_of(server, kind, count):
    for number in range(count):
        yield {
            "key": f"{kind} {number}",
            "downloadurl": server.url(kind, f"{number}.jpg"),
        }


@pytest.mark.slow
def test_every_kind_of_misbehaviour_costs_its_own_rows_only(server, tmp_path):
    rows = [row for kind in KINDS for row in rows_of(server, kind, 3)]
    start = time.monotonic()
    counts = fetch_pictures(rows, tmp_path, **QUICK, patience=5)
    assert time.monotonic() - start < 60
    assert len(KINDS) >= 60 and counts["rows"] == len(rows) >= 300
    assert sum(counts[name] for name in SETTLED) == len(rows)
    table = failures(tmp_path)
    assert (table["reason"] != "").all() and verify(tmp_path) == []
    assert all(reason.isprintable() for reason in table["reason"])
    found = collections.defaultdict(set)
    for row in rows:
        found[row["key"].split()[0]].add("ok")
    for key in table["key"]:
        found[key.split()[0]].discard("ok")
    for key, status in zip(table["key"], table["status"], strict=True):
        found[key.split()[0]].add(status)
    wrong = {k: v for k, v in found.items() if not v <= set(KINDS[k].settled)}
    assert wrong == {}


def test_nothing_is_told_to_a_host_but_what_is_asked_for(server, tmp_path):
    kinds = ["good_with_cookies", "moved_with_cookies", "moved_with_credentials"]
    server.heads.clear()
    rows = [row for kind in kinds * 2 for row in rows_of(server, kind, 2)]
    rows.append({"key": "1", "downloadurl": server.url("good").replace("//", "//a:b@")})
    fetch_pictures(rows, tmp_path, **QUICK, concurrency=1)
    names = set(re.findall(r"^([\w-]+):", "".join(server.heads), re.MULTILINE))
    assert names == {"Host", "User-Agent", "Accept-Encoding"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wait_an_hour", "silent", "status_503", "drips"])
def test_a_host_gets_its_pictures_while_another_lets_us_wait(server, tmp_path, kind):
    bad = list(rows_of(server, kind, 40))
    # Another port is another host.
    good = list(rows_of(server, "wait_once", 20))
    for row in good:
        row["downloadurl"] = row["downloadurl"].replace("wait_once", "good")
    arrived = []
    start = time.monotonic()

    def rows():
        yield from bad
        yield from good

    more = {"backoff": 0.1, "timeout": 3, "concurrency": 8, "retries": 0}
    server.times.clear()
    counts = fetch_pictures(rows(), tmp_path, **more)
    for row in good:
        path = "/" + row["downloadurl"].split("/", 3)[3]
        arrived += server.times[path]
    assert counts["ok"] == 20 and counts["failed"] == 40
    assert len(arrived) == 20 and min(arrived) - start < 10
    assert max(arrived) - start < 25


@pytest.mark.slow
def test_a_host_is_asked_again_when_the_time_that_it_asked_for_is_over(
    server, tmp_path
):
    counts = fetch_pictures(rows_of(server, "wait_once", 10), tmp_path, backoff=0)
    assert counts["ok"] == 10


def test_a_host_that_asks_for_too_much_is_left_for_the_next_run(server, tmp_path):
    before = server.num_asked("wait_an_hour")
    start = time.monotonic()
    counts = fetch_pictures(rows_of(server, "wait_an_hour", 50), tmp_path, patience=9)
    assert counts["failed"] == 50 and time.monotonic() - start < 5
    assert server.num_asked("wait_an_hour") - before <= 8
    reasons = failures(tmp_path)["reason"]
    assert reasons.str.contains("asked to wait").all()


def test_patience_is_regained_by_giving_pictures(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(hosts.time, "monotonic", lambda: now[0])
    queues, host = hosts.Queues(4, 4, patience=60), hosts.Host()
    for _ in range(10):  # a host that throttles is followed as long as it gives
        host.pause(50)
        host.pause(50)  # of another answer of the same moment
        assert not queues.is_left(host)
        now[0] += 50
        for _ in range(50):
            host.thank()
    host.pause(59)
    now[0] += 59
    host.pause(2)
    assert queues.is_left(host)
    now[0] += 3
    assert not queues.is_left(host)


def test_rows_that_wait_are_bounded(server, tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "MAX_WAITING", 50)
    monkeypatch.setattr(hosts, "STALL_S", 0.1)
    most = []

    def rows():
        for number, row in enumerate(rows_of(server, "silent", 150)):
            asked = server.num_asked("silent")
            most.append(number - asked)
            yield row

    more = {"concurrency": 20, "timeout": 0.3, "retries": 0}
    counts = fetch_pictures(rows(), tmp_path, **more)
    # 50 wait, and 20 are under way of which the server may not have heard yet
    assert counts["failed"] == 150 and max(most) <= 50 + 20


def test_hosts_that_have_nothing_to_do_are_forgotten(monkeypatch):
    monkeypatch.setattr(hosts, "MAX_HOSTS", 10)
    queues = hosts.Queues(2, 2, patience=60)
    for number in range(100):
        url = answers.checked_url(f"http://host{number}/a.jpg")
        queues.put(hosts.Request(str(number), str(url), url, url))
        request = queues.take()
        queues.finish(queues.host_of(request))
    assert len(queues.hosts) == 10 and not queues.queued
