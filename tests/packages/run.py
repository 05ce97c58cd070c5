"""Runs the tests of other packages with the backends of this one.

``python tests/packages/run.py`` downloads the source of each package, and runs its
tests with Django's outbox, with `OutboxBackend` and with a sandbox (see `swap.py`). The
same tests must pass with all three. Requires ``pip install -e '.[test,packages]'``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = ("django-mailer", "django-post_office")
BACKENDS = ("django", "outbox", "wire")


@dataclass
class Result:
    passed: int
    #: These fail with Django's outbox, too: the archives lack files that they read.
    failed: frozenset[str]
    output: str = field(compare=False)


def main() -> int:
    wrong = 0
    total = 0
    for package in PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            root = download(package, Path(folder))
            with ThreadPoolExecutor(len(BACKENDS)) as pool:
                runs = {name: pool.submit(run, root, name) for name in BACKENDS}
                results = {name: future.result() for name, future in runs.items()}
        for backend, result in results.items():
            total += result.passed
            is_right = result.passed and result == results["django"]
            wrong += not is_right
            print(
                f"{package} {version(package)} with {backend}: {result.passed} passed,"
                f" {len(result.failed)} not; {'right' if is_right else 'WRONG'}"
            )
            if not is_right:
                print(result.output)
    print(f"{total} passed in 0s" if not wrong else f"{wrong} runs are wrong")
    return bool(wrong)


def download(package: str, folder: Path) -> Path:
    """Return the folder with the source of the installed version."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--dest", str(folder)]
    subprocess.run([*command, f"{package}=={version(package)}"], check=True)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    [root] = [path for path in folder.iterdir() if path.is_dir()]
    # Some archives lack it, so another package named "tests" would be imported.
    (root / "tests/__init__.py").touch()
    (root / "tests_of_packages_swap.py").write_text((HERE / "swap.py").read_text())
    return root


def run(root: Path, backend: str) -> Result:
    """Run the package's tests with this backend, and return the result."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-rfE"]
    command += ["-p", "no:cacheprovider", "-p", "tests_of_packages_swap", "tests"]
    names = {"BACKEND_OF_TESTS": backend}
    with tempfile.TemporaryDirectory() as own:
        # Separate folders: packages lock a file in the current or temporary folder.
        copy = shutil.copytree(root, Path(own, "copy"))
        names |= {"PYTHONPATH": str(copy), "TMPDIR": own}
        done = subprocess.run(
            command,
            cwd=copy,
            env=os.environ | names,
            capture_output=True,
            text=True,
            timeout=300,
        )
    passed = re.findall(r"(\d+) passed", done.stdout)
    failed = frozenset(
        re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    )
    if done.returncode not in (0, 1) or "INTERNALERROR" in done.stdout:
        failed |= {f"pytest itself: {done.returncode}"}
    return Result(
        passed=int(passed[-1]) if passed else 0,
        failed=failed,
        output=done.stdout[-6000:] + done.stderr[-3000:],
    )


if __name__ == "__main__":
    sys.exit(main())
