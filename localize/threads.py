"""How many threads torch computes in and how they wait for one another: settled before it is loaded, where the user has settled nothing."""

import os
import sys
from pathlib import Path

SPINS = "2000"
"""Turns after which a thread that waits for another sleeps. By default OpenMP's threads turn on, on the very core that the other
needs: on a machine whose cores are busy elsewhere, or in a container that may use fewer than it sees, two threads then take
several times as long as one."""

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def available_cpus() -> int:
    """How many CPUs this process may keep busy: those it may run on, or fewer where its control group allows less time. At least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def settle_threads() -> None:
    """Tell OpenMP how long to wait and, where the control group allows less than the CPUs it sees, how many threads to start.

    It reads this once, when torch or NumPy's like load it: once torch is there, nothing is changed. What the user has set stands.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = SPINS
    if not any(name in os.environ for name in COUNTS) and (cpus := available_cpus()) < (os.cpu_count() or 1):
        os.environ["OMP_NUM_THREADS"] = str(cpus)


def waiting() -> str:
    """How threads wait, for the provenance: the variable that says so, or "default"."""
    return next((f"{name}={os.environ[name]}" for name in WAITING if name in os.environ), "default")


def _quota(groups: Path, mounted: Path) -> float | None:
    """CPUs that the process's control groups, and those above them, grant in time; None where they grant all.

    Args:
        groups: A line `number:controllers:path` for each hierarchy that the process is in.
        mounted: Where the hierarchies are mounted.
    """
    try:
        lines = [line.split(":", 2) for line in groups.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None  # no Linux, or no control groups
    quotas = []
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers == "":
            places = [mounted, mounted / "unified"]
        elif "cpu" in controllers.split(","):
            places = [mounted / "cpu", mounted / controllers]
        else:
            continue
        for place in places:
            # Inside a container the group's own path may not be mounted, but its files lie at the top.
            for part in (Path(path.lstrip("/")), *Path(path.lstrip("/")).parents):
                quotas.append(_granted(place / part))
    return min((quota for quota in quotas if quota is not None), default=None)


def _granted(group: Path) -> float | None:
    """CPUs that one control group grants; None where it grants all, or is not there."""
    try:
        if (group / "cpu.max").is_file():  # version 2
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:  # version 1
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip() for name in ("quota", "period")
            )
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return None
