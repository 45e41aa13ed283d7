"""How many threads there are and how they wait is settled before torch is loaded, unless the user has settled it."""

import os
import subprocess
import sys

import pytest

from localize import threads

SETTLED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
TELLS = "import os, localize; print([os.environ.get(name) for name in {names!r}])"


def environment(**given):
    """This process's, with none of what settles threads but what is given."""
    return {name: value for name, value in os.environ.items() if name not in SETTLED} | given


def told(code, **given):
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(**given), capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_threads_that_wait_soon_sleep():
    assert told(TELLS.format(names=["GOMP_SPINCOUNT"])) == "['2000']"


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_has_set_stands(name):
    names = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"]
    assert told(TELLS.format(names=names), **{name: "7"}) == str(["7" if name == other else None for other in names])
    assert told("import localize, torch; print(torch.get_num_threads())", OMP_NUM_THREADS="1") == "1"


def test_once_torch_is_loaded_nothing_is_changed():
    assert told("import torch, localize, os; print(os.environ.get('GOMP_SPINCOUNT'))") == "None"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="CPUs can be taken from a process on Linux only")
def test_a_process_that_may_use_one_cpu_computes_in_one_thread():
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); import localize, torch; print(torch.get_num_threads())"
    assert told(code) == "1"


QUOTAS = [
    # version 2: quota and period in one file; "max" grants all
    ("0::/job", {"job/cpu.max": "150000 100000"}, 1.5),
    ("0::/job", {"job/cpu.max": "max 100000"}, None),
    ("0::/outer/inner", {"outer/cpu.max": "200000 100000", "outer/inner/cpu.max": "max 100000"}, 2.0),
    ("0::/outer/inner", {"outer/cpu.max": "200000 100000", "outer/inner/cpu.max": "400000 100000"}, 2.0),
    ("0::/not/mounted/here", {"cpu.max": "100000 100000"}, 1.0),  # inside a container its own group lies at the top
    # version 1: two files, in the hierarchy of the cpu controller; -1 grants all
    (
        "4:cpu,cpuacct:/job",
        {"cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
        0.5,
    ),
    ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ("5:memory:/job", {"memory/job/cpu.max": "100000 100000"}, None),
    ("", {}, None),
]


@pytest.mark.parametrize(("groups", "files", "quota"), QUOTAS)
def test_the_quota_is_the_smallest_of_the_groups_that_a_process_is_in(tmp_path, groups, files, quota):
    (tmp_path / "cgroup").write_text(groups + "\n")
    for name, content in files.items():
        (tmp_path / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mounted" / name).write_text(content)
    assert threads._quota(tmp_path / "cgroup", tmp_path / "mounted") == quota


@pytest.mark.parametrize(("quota", "cpus"), [(None, 4), (2.5, 2), (0.3, 1), (9.0, 4)])
def test_cpus_are_those_allowed_or_fewer_where_less_time_is_granted(monkeypatch, quota, cpus):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(threads, "_quota", lambda *_: quota)
    assert threads.available_cpus() == cpus


def test_a_quota_below_the_cpus_that_are_seen_sets_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(threads, "available_cpus", lambda: 3)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    threads.settle_threads()
    assert os.environ == {"GOMP_SPINCOUNT": "2000", "OMP_NUM_THREADS": "3"}
    assert threads.waiting() == "GOMP_SPINCOUNT=2000"
