"""The local engine: order, failures, and what becomes of its workers. Each test starts real processes, which takes seconds."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from musae.card import SuiteCard
from musae.engines import local
from musae.errors import UserError
from musae.evaluation import Job, jobs
from musae.workspace import Workspace

SUITE = SuiteCard(
    name="tiny",
    summary="for tests",
    generator="nano",
    layer=1,
    width=64,
    k=4,
    methods=("pca", "random"),
    baselines=("residual",),
    tasks=("sparsity",),
    corpora=("procedural",),
    seeds=(0,),
    training_frames=5_120,
    clip_seconds=10.24,
    clips={"procedural": 10},
    replicates=100,
)


def test_jobs_run_after_what_they_need_and_lie_on_disk(tmp_path):
    done = []
    local.run(SUITE, tmp_path, jobs(SUITE), workers=2, watch=lambda event, job, _: done.append(job) if event == "done" else None)
    assert set(done) == set(jobs(SUITE))
    for job in done:
        if job.needs in done:
            assert done.index(job.needs) < done.index(job)
    assert len(list(Workspace(SUITE, tmp_path).results.rglob("sparsity@*.json"))) == 3


def test_bad_input_in_a_worker_reaches_the_caller(tmp_path):
    with pytest.raises(UserError, match="did you mean 'pca'"):
        local.run(SUITE, tmp_path, [Job("pcaa", None)], workers=1, watch=lambda *_: None)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads processes from /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; import test_local_engine as t;"
        "from musae.engines import local; from musae.evaluation import jobs\n"
        "up = lambda *a: print('up', flush=True)\n"
        "if __name__ == '__main__': local.run(t.SUITE, Path(sys.argv[1]), jobs(t.SUITE), workers=2, watch=up)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path), str(Path(__file__).parent)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    workers = children(parent.pid)
    assert workers
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in workers)


def children(pid):
    """Processes whose parent is `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
