"""The framework of the benchmarks: table, bounds, and one complete measurement."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def report():
    sys.path.insert(0, str(HERE))
    try:
        yield importlib.import_module("report")
    finally:
        sys.path.remove(str(HERE))
        for name in ("report", "rows"):
            sys.modules.pop(name, None)


@pytest.fixture
def ports():
    with subprocess.Popen(
        [sys.executable, HERE / "server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()


def run(*arguments):
    # The child imports the same package as this process: checkout or wheel.
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": path},
    )


def threads_of(report, one, many):
    return {"threads": {"one": [{"threads": one}] * 3, "many": [{"threads": many}] * 3}}


def test_a_bound_that_holds_is_ok(report):
    results = threads_of(report, 1, 8)
    assert report.missed(results) == []
    assert "at most 1 threads for one message: ok" in report.table(results, messages=1)


def test_a_bound_that_is_missed_is_named(report):
    results = threads_of(report, 2, 8)
    assert report.missed(results) == [
        "threads: 2 threads for one message, the bound is 1"
    ]
    assert "MISSED" in report.table(results, messages=1)


def test_the_median_and_the_spread_are_shown(report):
    runs = [{"threads": 8}, {"threads": 2}, {"threads": 5}]
    results = {"threads": {"one": [{"threads": 1}], "many": runs}}
    line = next(
        line
        for line in report.table(results, messages=1).splitlines()
        if "20 messages" in line
    )
    assert line.split()[-4:] == ["5", "2", "8", "threads"]


def test_the_readme_names_every_benchmark(report):
    text = (HERE / "README.rst").read_text("utf-8")
    assert [name for name in report.BENCHMARKS if f"``{name}``" not in text] == []


def test_the_command_has_a_help_text():
    done = run(HERE / "run.py", "--help")
    assert done.returncode == 0
    assert all(word in done.stdout for word in ("--only", "--json", "--check"))


def test_an_unknown_benchmark_is_refused():
    assert run(HERE / "run.py", "--only", "nothing").returncode == 2


def test_a_batch_is_measured(ports):
    params = {
        **ports,
        "messages": 12,
        "connections": 3,
        "way": "django_turbosmtp.backends.EmailBackend",
    }
    done = run(HERE / "measure.py", "batch", json.dumps(params))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["rate"] > 0
    assert 1 <= figures["connections"] <= 3


def test_large_attachments_arrive_whole_after_refusals(ports):
    params = {
        **ports,
        "megabytes": 1,
        "refuse": "429,503",
        "way": "django_turbosmtp.backends.EmailBackend",
    }
    done = run(HERE / "measure.py", "attachments", json.dumps(params))
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["requests"], figures["complete"]) == (3, 1)


def test_the_webhook():
    done = run(HERE / "webhook.py", "--messages", "100", "--events", "200")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if "/s" in line]
    assert [row[:20].strip() for row in rows] == ["in arrays of 100", "one by one"]


def test_the_pages_of_the_log():
    done = run(HERE / "admin.py", "--messages", "250", "--times", "1")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if " ms" in line]
    assert {row[:36].strip() for row in rows} >= {"list, first page", "detail"}
    # At most ten queries each, for any number of rows.
    assert all(0 < int(row.split()[-1]) <= 10 for row in rows)
