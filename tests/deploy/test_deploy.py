"""What is shipped beside the package: the unit, the Debian package, what it takes from the lock file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/trueup.service"
DEBIAN_PYTHON = "/usr/bin/python3"


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment or None, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_hardened(tmp_path: Path) -> None:
    lines = run("systemd-analyze", "security", "--offline=yes", "--no-pager", str(UNIT)).splitlines()
    level = float(lines[-1].partition(": ")[2].split()[0])
    assert level < 2.0, lines
    # Its program is not installed here; all else must be understood.
    unit = tmp_path / "trueup.service"
    unit.write_text(UNIT.read_text().replace("/opt/trueup/bin/trueup", "/bin/true"))
    assert run("systemd-analyze", "verify", "--man=no", str(unit)) == ""


def test_the_unit_waits_for_recovery_and_watches_over_the_loop() -> None:
    lines = UNIT.read_text().splitlines()
    assert {"Type=notify", "WatchdogSec=1min", "TimeoutStartSec=20min", "User=trueup"} <= set(lines)


def test_the_lock_holds_all_that_is_needed_at_run_time() -> None:
    printed = run(sys.executable, "deploy/debian/runtime_lock.py", "requirements.lock", "pyproject.toml")
    names = {line.split("==")[0] for line in printed.splitlines() if "==" in line}
    assert {"aiohttp", "cffi", "cryptography", "msgspec", "pydantic-core", "uvicorn", "yarl"} <= names
    assert not names & {"pytest", "ruff", "fakepve", "hypothesis", "basedpyright"}
    assert printed.count("--hash=sha256:") > len(names)


def debian_python() -> str:
    """Why no package can be built here, '' if one can."""
    if shutil.which("dpkg-deb") is None:
        return "dpkg-deb is not installed"
    check = "import sys, ensurepip, venv, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        done = subprocess.run([DEBIAN_PYTHON, "-c", check], capture_output=True, check=False)
    except OSError:
        return f"there is no {DEBIAN_PYTHON}"
    return "" if done.returncode == 0 else "Debian's Python is too old here, or has no venv and pip"


@pytest.mark.timeout(300)
@pytest.mark.skipif(bool(debian_python()), reason=debian_python() or "-")
def test_the_debian_package_works_without_an_index(tmp_path: Path) -> None:
    run("deploy/debian/build.sh", str(tmp_path), **{**os.environ, "PYTHON": DEBIAN_PYTHON, "COMPRESSION": "none"})
    (package,) = tmp_path.glob("trueup_*.deb")
    root = tmp_path / "root"
    run("dpkg-deb", "-x", str(package), str(root))
    files = run("dpkg-deb", "-c", str(package))
    assert "./lib/systemd/system/trueup.service" in files
    assert "./usr/bin/trueup -> /opt/trueup/bin/trueup" in files
    python = root / "opt/trueup/bin/python"
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [python, "-m", "trueup", "--version"], check=False, capture_output=True, text=True, env=bare, cwd=tmp_path
    )
    assert done.stdout.startswith("trueup "), done.stderr
    script = (root / "opt/trueup/bin/trueup").read_text().splitlines()
    assert script[0] == "#!/opt/trueup/bin/python"
    lab = tmp_path / "lab"
    subprocess.run([python, "-m", "trueup", "init", lab], check=True, capture_output=True, env=bare, cwd=tmp_path)
    assert (lab / "trueup.toml").exists()
    own = str(ROOT)
    leaks = [path for path in root.rglob("*") if path.is_file() and path.suffix in {"", ".cfg", ".pth"}]
    assert not [path for path in leaks if own.encode() in path.read_bytes()], "the builder's paths are in the package"
