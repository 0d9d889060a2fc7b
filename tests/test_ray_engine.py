"""The Ray engine on a cluster of two workers here, of which one is killed. Starting them takes most of the half minute."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from test_local_engine import SUITE

from musae import registry
from musae.activations import harvest, tokens
from musae.corpora.track import Split
from musae.engines import local
from musae.errors import UserError
from musae.evaluation import jobs
from musae.results import read_all

ray = pytest.importorskip("ray")

from musae.engines import ray as engine  # noqa: E402


@pytest.fixture(scope="module")
def cluster():
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests
    with engine.Cluster(workers=2) as found:
        yield found
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def die_once(marker: Path) -> None:
    """Kill this process where no process has died of the same marker; the next one says so in a file beside it."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """nano, that dies in the middle of its second forward pass, once, and counts its passes in files."""

    def __init__(self, folder: Path):
        self.nano, self.folder, self.passes = registry.make("generators", "nano"), folder, 0

    def __getattr__(self, name):
        return getattr(self.nano, name)

    def stream(self, codes, layers):
        self.passes += 1
        if self.passes == 2:
            die_once(self.folder / "died")
        (self.folder / f"pass-{os.getpid()}-{self.passes}").touch()
        return self.nano.stream(codes, layers)


class Broken(Mortal):
    def stream(self, codes, layers):
        raise UserError("clip 7: its stream is broken; repair it.")


def content(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".json"}


@pytest.fixture(scope="module")
def clips():
    return registry.make("corpora", "procedural").clips(Split.TRAIN, seconds=2.56, limit=24)


def test_a_harvest_survives_a_worker_and_is_the_local_one(cluster, clips, tmp_path):
    nano, corpus = registry.make("generators", "nano"), registry.make("corpora", "procedural")
    make, make_corpus = partial(registry.make, "generators", "nano"), partial(registry.make, "corpora", "procedural")
    there = tokens.tokenize(nano, corpus, clips, cache=tmp_path / "a", piece=6, engine=cluster.tokenizer(make, make_corpus))
    here = tokens.tokenize(nano, corpus, clips, cache=tmp_path / "b", piece=6)
    assert there.digest == here.digest
    counted = tmp_path / "passes"
    counted.mkdir()
    seen = []
    sizes = {"shard_clips": 4, "batch_clips": 4}
    there = partial(harvest.harvest, engine=cluster.harvester(partial(Mortal, counted)), progress=lambda *x: seen.append(x))
    there(nano, here, (1, 3), tmp_path / "there", **sizes)
    harvest.harvest(nano, here, (1, 3), tmp_path / "here", **sizes)
    assert (counted / "died").exists()
    assert len(list(counted.glob("pass-*"))) == 6  # one a shard: nothing was computed twice but the pass that died
    assert seen == [(n, 24) for n in range(4, 25, 4)]
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_what_a_worker_raises_reaches_the_caller(cluster, clips, tmp_path):
    nano, corpus = registry.make("generators", "nano"), registry.make("corpora", "procedural")
    codes = tokens.tokenize(nano, corpus, clips, cache=tmp_path, piece=6)
    with pytest.raises(UserError, match=r"clip 7: its stream is broken; repair it\.$"):
        harvest.harvest(nano, codes, (1,), tmp_path / "x", engine=cluster.harvester(partial(Broken, tmp_path)))


def do_or_die(marker, original, item):
    """A job of which the first fit dies after its work, before anybody hears of it."""
    original(item)
    if item[2].corpus is None:
        die_once(marker)


def test_a_suite_survives_a_worker_and_has_the_local_rows(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "_do", partial(do_or_die, tmp_path / "died", engine._do))
    events = []
    cluster.run(SUITE, tmp_path / "there", jobs(SUITE), watch=lambda *event: events.append(event))
    assert (tmp_path / "died").exists()
    assert sorted(job.name for event, job, _ in events if event == "done") == sorted(job.name for job in jobs(SUITE))
    local.run(SUITE, tmp_path / "here", jobs(SUITE), workers=2, watch=lambda *_: None)
    there, here = ([row for file in read_all(tmp_path / name) for row in file.rows] for name in ("there", "here"))
    assert len(here) > 5
    assert [(row.method, row.metric, row.dictionary, row.value) for row in there] == [
        (row.method, row.metric, row.dictionary, row.value) for row in here
    ]


def test_without_ray_or_its_cluster_one_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"engine ray: the package is not installed; pip install 'musae\[ray\]'"):
        engine.Cluster()
