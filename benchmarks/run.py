"""Measure django-turbosmtp and other packages, and check the results against bounds.

``python3 benchmarks/run.py`` creates a virtual environment, and needs only the standard
library to start. README.rst describes each benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import report
from rows import BENCHMARKS, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
ENVIRONMENT = ROOT / ".venv-benchmarks"
PEERS = ["django-anymail", "django-post_office", "django-mailer", "requests"]


def main() -> int:
    options = _options()
    python = _environment(options.fresh)
    names = options.only or list(BENCHMARKS)
    with _server(python) as ports:
        params = {**ports, "messages": options.messages}
        results = {name: _measure(python, name, params, options) for name in names}
    print(report.table(results, messages=options.messages))
    print(_NOTES)
    if options.json:
        _write(options.json, python, options, results)
    missed = report.missed(results)
    for line in missed:
        print(f"MISSED {line}", file=sys.stderr)
    return 1 if options.check and missed else 0


_NOTES = """
Messages: text and HTML, about 700 bytes. Each row is the median of processes of its
own, its peers' in turn with it, after a warm-up. CPU is the client's alone. The SMTP
server waits once a message, on the answer that accepts its data. The queues' rates are
their commands' alone; filling the queue comes on top."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only",
        action="append",
        choices=BENCHMARKS,
        metavar="NAME",
        help=f"measure this alone; may be repeated: {', '.join(BENCHMARKS)}",
    )
    parser.add_argument("--messages", type=_positive, default=500, metavar="N")
    parser.add_argument(
        "--repeat", type=_positive, default=3, metavar="N", help="median of N (3)"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write raw figures")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 when a bound is missed"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="make the virtual environment anew"
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def _environment(fresh: bool) -> Path:
    """Return a Python with this checkout and the other packages installed."""
    python = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = ENVIRONMENT / "made-from"
    # The requirements; the rest of pyproject.toml is for other tools.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["tasks"]]
    wanted = hashlib.sha256(repr([needed, PEERS, sys.version]).encode()).hexdigest()
    if fresh or not stamp.exists() or stamp.read_text("ascii") != wanted:
        print("Making the virtual environment ...", file=sys.stderr)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--editable", f"{ROOT}[tasks]", *PEERS], check=True)
        stamp.write_text(wanted, "ascii")
    return python


def _child_environment() -> dict[str, str]:
    """Return the environment of children; their compiled modules are in a cache."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "DJANGO")) and "proxy" not in name.lower()
    }
    return kept | {"PYTHONPYCACHEPREFIX": str(ENVIRONMENT / "pycache")}


@contextlib.contextmanager
def _server(python: Path) -> Iterator[dict[str, int]]:
    process = subprocess.Popen(
        [python, HERE / "server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_child_environment(),
    )
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(timeout=10)


def _measure(
    python: Path, name: str, params: dict[str, Any], options: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Return the figures of each variant. They alternate, so that noise affects all."""
    variants = BENCHMARKS[name].variants
    figures: dict[str, list[dict[str, Any]]] = {key: [] for key in variants}
    rounds = options.repeat * max(variant.times for variant in variants.values())
    if name == "import":
        # Compile all modules first.
        for variant in variants.values():
            _child(python, variant, params)
    for turn in range(rounds):
        print(f"{name} {turn + 1}/{rounds}", file=sys.stderr, flush=True)
        for key, variant in variants.items():
            figures[key].append(_child(python, variant, params))
    return figures


def _child(python: Path, variant: Variant, params: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [
            python,
            HERE / "measure.py",
            variant.work,
            json.dumps({**params, **variant.params}),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=_child_environment(),
    )
    return json.loads(done.stdout.splitlines()[-1])


def _write(
    path: Path, python: Path, options: argparse.Namespace, results: report.Results
) -> None:
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    content = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "versions": {
            "Python": platform.python_version(),
            **{p["name"]: p["version"] for p in json.loads(listed.stdout)},
        },
        "messages": options.messages,
        "repeat": options.repeat,
        "bounds": [
            {
                "benchmark": name,
                "bound": bound.label,
                "limit": bound.limit,
                "at_least": bound.at_least,
                "value": value,
                "holds": bound.holds(value),
            }
            for name, bound, value in report.bounds(results)
        ],
        "results": results,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
