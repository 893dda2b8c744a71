"""The driver of the comparison with other libraries, with workers that only pretend to work."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.bench import command
from experiments.bench.peers import __main__ as peers
from experiments.bench.peers import comparisons, installation, process
from experiments.bench.peers.comparisons import Comparison, Contender
from experiments.bench.peers.installation import PeerUnavailable
from experiments.bench.peers.measure import ratio
from experiments.bench.peers.workers import protocol
from experiments.launch import run_folder
from experiments.launch.progress import Silent

WORKERS = Path(protocol.__file__).parent

# Takes as long as its sizes say; with `say` it says that instead of a segment.
FAKE = """
import json, sys
sys.path.insert(0, {workers!r})
import protocol
channel = protocol.Channel()
given = protocol.read_config("seconds", "say", "order", "segments", shared=())
print("a library that prints")
calls = iter(given["seconds"])

def run(part):
    with open(given["order"], "a") as file:
        file.write(part + " " + str(given["seconds"]) + "\\n")
    if given["say"] == "end":
        sys.exit("out of luck")
    if given["say"]:
        channel._output.write(given["say"] + "\\n")
        channel._output.flush()
        sys.stdin.readline()
    seconds = next(calls)
    return protocol.Segment(100, 50 if part == "train" else 0, seconds, seconds / 2)

channel.ready({{"fake": "1.0"}})
channel.serve({{part: (lambda part=part: run(part)) for part in ("train", "collect")}})
"""


@pytest.fixture
def fake(tmp_path):
    path = tmp_path / "fake.py"
    path.write_text(FAKE.format(workers=str(WORKERS)))
    return lambda worker: [sys.executable, str(path)]


def contender(tmp_path, label, worker, seconds, say=""):
    order = str(tmp_path / "order")
    return Contender(label, worker, {"seconds": seconds, "say": say, "order": order})


def comparison(tmp_path, name="one", peer="brax", say=""):
    # Two rounds of a training and a collecting segment each.
    return Comparison(
        name,
        f"{name} title",
        peer,
        (
            contender(tmp_path, "slow peer", peer, [8.0, 1.0, 8.0, 1.0]),
            contender(tmp_path, "fast peer", peer, [4.0, 1.0, 6.0, 1.0], say),
            contender(tmp_path, "ours", "sobolax", [2.0, 0.5, 2.0, 0.5]),
        ),
        f"{name} note",
    )


def run(tmp_path, chosen, fake, install=lambda peer: False):
    options, folder = peers.Peers(repetitions=2, timeout=60.0), tmp_path / "run"
    folder.mkdir()
    measured = list(peers.measure(chosen, options, folder, Silent(), install, fake))
    assert len(measured) == len(chosen)
    command.save(folder, *measured[-1])
    return measured[-1][1], folder


def test_contenders_take_turns_and_the_fastest_count(tmp_path, fake):
    results, folder = run(tmp_path, [comparison(tmp_path)], fake)
    lines = (tmp_path / "order").read_text().splitlines()
    assert [line.split()[0] for line in lines] == (["train"] * 3 + ["collect"] * 3) * 2
    assert lines[:3] == lines[6:9]  # A B C, and again
    assert len(set(lines[:3])) == 3
    (one,) = results["comparisons"]
    assert one["ratio"]["ours"] == "ours"
    assert one["ratio"]["peer"] == "fast peer"
    assert (one["ratio"]["smallest"], one["ratio"]["largest"]) == (2.0, 3.0)
    assert one["ratio"]["median"] == 2.5
    ours = one["contenders"][-1]
    assert ours["steps_per_second"] == 50
    assert ours["updates_per_environment_step"] == 0.5
    assert ours["steps_per_processor_second"] == 100
    assert ours["processor_us_per_collected_step"] == pytest.approx(2500)
    assert ours["processor_ms_per_update"] == pytest.approx((1.0 - 0.25) / 50 * 1e3)
    assert ours["versions"] == results["comparisons"][0]["contenders"][0]["versions"]
    assert ours["versions"]["fake"] == "1.0"
    assert json.loads((folder / run_folder.RESULTS).read_text())["comparisons"] == [one]
    page = (folder / "table.md").read_text()
    for part in ("one title", "fast peer", "| 2.50 | 2.00 | 3.00 |", "fake 1.0"):
        assert part in page
    assert "a library that prints" in (folder / "one-0-brax.log").read_text()


def test_the_ratio_is_of_rounds(tmp_path):
    def row(worker, seconds):
        segments = [
            {"environment_steps": 10, "updates": 1, "seconds": s, "processor_seconds": 1.0}
            for s in seconds
        ]
        rate = 10 / sorted(seconds)[1]
        return {
            "label": worker,
            "worker": worker,
            "steps_per_second": rate,
            "segments": {"train": segments},
        }

    # The machine is three times as slow in the second round, for both.
    found = ratio([row("brax", [2.0, 6.0, 2.0]), row("sobolax", [1.0, 3.0, 1.0])])
    assert (found["smallest"], found["median"], found["largest"]) == (2.0, 2.0, 2.0)
    assert found["processor"] == 1.0


def test_a_peer_that_cannot_be_installed_leaves_the_other_rows(tmp_path, fake):
    def install(peer):
        if peer == "sbx":
            raise PeerUnavailable("the environment of sbx cannot be made: no network")
        return False

    chosen = [comparison(tmp_path, "without", "sbx"), comparison(tmp_path, "with", "rejax")]
    results, folder = run(tmp_path, chosen, fake, install)
    assert [one["name"] for one in results["comparisons"]] == ["with"]
    assert "no network" in results["left_out"]["without"]
    page = (folder / "table.md").read_text()
    assert "with title" in page
    assert "without: the environment of sbx cannot be made" in page


def test_a_run_without_any_comparison_has_no_table(tmp_path, fake):
    def install(peer):
        raise PeerUnavailable("no network")

    ((tables, values),) = peers.measure(
        [comparison(tmp_path)], peers.Peers(), tmp_path, Silent(), install, fake
    )
    assert tables == []  # and the command's status is 1
    assert values["left_out"] == {"one": "no network"}


@pytest.mark.parametrize(
    ("say", "message"),
    [
        ("end", "fast peer ended with status 1: out of luck; its log is"),
        ("faster than light", "which is no JSON object"),
        ('{"event": "ready", "versions": {}}', "where 'segment' was due"),
        ('{"event": "segment", "part": "train"}', "without a sound 'environment_steps'"),
        (
            '{"event": "segment", "part": "collect", "environment_steps": 1, "updates": 0, '
            '"seconds": 1, "processor_seconds": 1}',
            "got 'train' to run and ran 'collect'",
        ),
        (
            '{"event": "segment", "part": "train", "environment_steps": 1, "updates": 0, '
            '"seconds": 0, "processor_seconds": 0}',
            "an impossible segment",
        ),
    ],
)
def test_a_worker_that_breaks_the_protocol_is_named(tmp_path, fake, say, message):
    chosen = [comparison(tmp_path, "bad", say=say), comparison(tmp_path, "good")]
    results, _ = run(tmp_path, chosen, fake)
    assert [one["name"] for one in results["comparisons"]] == ["good"]
    assert message in results["left_out"]["bad"]
    assert "fast peer" in results["left_out"]["bad"]


def worker(tmp_path, command, config=None, timeout=60.0):
    return process.Worker("it", command, config or {}, tmp_path / "log", timeout)


def test_a_silent_worker_is_given_up(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        worker(tmp_path, command, timeout=0.2) as silent,
        pytest.raises(process.WorkerError, match=r"it said nothing for 0\.2 s"),
    ):
        silent.wait_until_ready()


def test_a_worker_without_its_configuration_says_which(tmp_path, fake):
    with (
        worker(tmp_path, fake("brax"), {"seconds": [], "segments": 2, "sey": ""}) as started,
        pytest.raises(process.WorkerError, match="order is missing, say is missing, sey is unkn"),
    ):
        started.wait_until_ready()


def test_every_worker_gets_the_fields_it_knows():
    for one in comparisons.ALL.values():
        assert {c.worker for c in one.contenders} == {one.peer, "sobolax"}
        for each in one.contenders:
            text = (WORKERS / f"{each.worker}_sac.py").read_text()
            own = re.search(r"(?:protocol\.read_config\(|make_work, packages, )([^)]*)\)", text)
            names = set(re.findall(r'"(\w+)"', own[1] if own else "")) | set(protocol.FIELDS)
            assert {*each.config, "segments"} == names, (one.name, each.label)


def test_an_environment_that_cannot_be_made_says_why(tmp_path):
    broken = tmp_path / "uv"
    broken.write_text("#!/bin/sh\necho 'error: could not connect' >&2\nexit 2\n")
    broken.chmod(0o755)
    with pytest.raises(PeerUnavailable, match=r"environment of rejax .* could not connect"):
        installation.install("rejax", tmp_path / "peers", str(broken))


def test_an_environment_is_made_once(tmp_path):
    calls = tmp_path / "calls"
    fake_uv = tmp_path / "uv"
    fake_uv.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\nif [ "$1" = venv ]; then\n'
        '  for last; do :; done; mkdir -p "$last/bin"; touch "$last/bin/python"\nfi\n'
    )
    fake_uv.chmod(0o755)
    folder = tmp_path / "peers"
    assert installation.install("brax", folder, str(fake_uv))
    assert not installation.install("brax", folder, str(fake_uv))
    assert [line.split()[0] for line in calls.read_text().splitlines()] == ["venv", "pip"]
    (folder / "brax" / "requirements-installed.txt").write_text("other packages")
    assert installation.install("brax", folder, str(fake_uv))


@pytest.mark.parametrize("peer", installation.PEERS)
def test_peers_are_pinned_exactly(peer):
    lines = installation.requirements(peer).read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    assert len(packages) > 10
    assert all(line.count("==") == 1 for line in packages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"comparisons": ("braxx",)}, r"'braxx' is unknown: choose one of brax-reacher"),
        ({"repetitions": 0}, "--repetitions 0 must be at least 1"),
        ({"timeout": 0.0}, "--timeout 0 must be above 0"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(change, message):
    with pytest.raises(ValueError, match=message):
        peers.prepare(replace(peers.Peers(), **change))


@pytest.mark.slow
def test_our_own_worker_trains_and_collects(tmp_path):
    config = {
        "environment": "pendulum",
        "environment_arguments": {},
        "num_envs": 2,
        "gradient_steps": 3,
        "batch_size": 4,
        "hidden_sizes": [4],
        "replay_capacity": 64,
        "learning_starts": 8,
        "episode_length": 200,
        "rounds": 5,
        "collect_rounds": 7,
        "segments": 1,
    }
    with worker(tmp_path, installation.command("sobolax"), config, 300.0) as ours:
        ours.wait_until_ready()
        assert ours.versions["sobolax"]
        train, collect = ours.run("train"), ours.run("collect")
    assert (train.environment_steps, train.updates) == (10, 15)
    assert (collect.environment_steps, collect.updates) == (14, 0)
    assert train.seconds > 0
