"""One process is the identity; 2, 4 and 8 agree with one, however unequal their shares."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import many_processes as work
import pytest
import torch
from waiting_processes import WAITS

import dclib.distributed
from dclib.cluster.pseudo_labels import spread
from dclib.distributed import (
    PeerLostError,
    all_reduce_max,
    all_reduce_sum,
    any_of,
    from_main,
    is_distributed,
    is_main,
    process_group,
    shard,
    share_gradients,
)

HERE = Path(__file__).resolve().parent
MANY = [n for n in work.PROCESSES if n > 1]
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 sums of some hundred numbers near 1, in another order
# six steps of 15 layers in float64, sums in another order; whitened points in between are kept as float32, from which
# only assignments are taken
ROUNDED = {"rtol": 1e-8, "atol": 1e-9}

pytestmark = pytest.mark.slow


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory):
    """Results of every task by (task, processes): a list over ranks."""
    folder = tmp_path_factory.mktemp("processes")
    script = [sys.executable, str(HERE / "many_processes.py"), str(folder)]
    done = subprocess.run(script, env=environment(), capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr[-3000:]

    def load(task: str, processes: int) -> list[dict[str, object]]:
        files = [folder / str(processes) / f"{task}-{rank}.pt" for rank in range(processes)]
        return [torch.load(file, weights_only=True) for file in files]

    return load


def assert_same_everywhere(ranks: list[dict[str, object]], *names: str) -> None:
    """To the last bit, or the processes would drift apart."""
    for other in ranks[1:]:
        for name in names:
            assert torch.equal(torch.as_tensor(other[name]), torch.as_tensor(ranks[0][name])), name


# --- one process


def test_one_process_is_the_identity():
    x = torch.arange(4.0)
    assert not is_distributed()
    assert is_main()
    for together in (all_reduce_sum, all_reduce_max):
        copy = together(x)
        assert torch.equal(copy, x)
        copy += 1
        assert x.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert any_of(True, False) == [True, False]
    assert from_main(0.1) == 0.1
    assert shard(7) == range(7)
    layer = torch.nn.Linear(2, 2)
    assert share_gradients(layer) is layer


def test_without_a_launcher_there_is_no_group():
    with process_group() as device:
        assert not is_distributed()
        assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("n", [0, 1, 7, 8, 1000])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_shards_are_contiguous_and_equal_to_within_one(n, size):
    shards = [shard(n, SimpleNamespace(place=place, size=size)) for place in range(size)]
    assert [row for rows in shards for row in rows] == list(range(n))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


# --- many agree with one


@pytest.mark.parametrize("processes", MANY)
def test_whitening(found, processes):
    (one,), ranks = found("whitening", 1), found("whitening", processes)
    assert_same_everywhere(ranks, "mean", "projection", "explained")
    torch.testing.assert_close(ranks[0]["mean"], one["mean"], **EXACT)
    signs = (ranks[0]["projection"] * one["projection"]).sum(dim=0).sign()  # an axis may point either way
    # a difference of 1e-15 between covariances turns axes by it over the gap of their eigenvalues
    torch.testing.assert_close(ranks[0]["projection"] * signs, one["projection"], rtol=0, atol=1e-9)
    assert ranks[0]["explained"] == pytest.approx(one["explained"], abs=1e-12)


@pytest.mark.parametrize("start", ["given", "drawn"])
@pytest.mark.parametrize("processes", MANY)
def test_kmeans(found, processes, start):
    (one,), ranks = found("clusters", 1), found("clusters", processes)
    names = [f"{start}/{name}" for name in ("centroids", "counts", "n_splits", "history")]
    assert_same_everywhere(ranks, *names)
    together = torch.cat([rank[f"{start}/assignments"] for rank in ranks])
    assert torch.equal(together, one[f"{start}/assignments"])
    assert ranks[0][f"{start}/n_splits"] == one[f"{start}/n_splits"]
    assert torch.equal(ranks[0][f"{start}/counts"], one[f"{start}/counts"])
    torch.testing.assert_close(ranks[0][f"{start}/centroids"], one[f"{start}/centroids"], **EXACT)
    torch.testing.assert_close(ranks[0][f"{start}/history"], one[f"{start}/history"], rtol=1e-12, atol=0)


def test_kmeans_had_clusters_to_refill(found):
    (one,) = found("clusters", 1)
    assert one["given/n_splits"] >= 3  # else the test above would not see whether ranks split alike


@pytest.mark.parametrize("processes", MANY)
def test_two_levels(found, processes):
    (one,), ranks = found("two_levels", 1), found("two_levels", processes)
    assert_same_everywhere(ranks, "super_cluster", "sub_class", "inertia")
    assert torch.equal(ranks[0]["super_cluster"], one["super_cluster"])
    assert torch.equal(ranks[0]["sub_class"], one["sub_class"])
    assert ranks[0]["inertia"] == pytest.approx(one["inertia"], rel=1e-6)  # distances are float32


@pytest.mark.parametrize("processes", MANY)
def test_batch_norm(found, processes):
    (one,), ranks = found("batch_norm", 1), found("batch_norm", processes)
    assert_same_everywhere(ranks, "running_mean", "running_var", "batches")
    assert torch.equal(torch.cat([rank["rows"] for rank in ranks]), one["rows"])
    assert len({len(rank["rows"]) for rank in ranks}) > 1  # unequal shares
    for name in ("y", "dx"):
        torch.testing.assert_close(torch.cat([rank[name] for rank in ranks]), one[name], rtol=1e-10, atol=1e-10)
    for name in ("weight_gradient", "bias_gradient"):  # each of its own rows; whoever averages gradients adds them up
        torch.testing.assert_close(sum(rank[name] for rank in ranks), one[name], rtol=1e-10, atol=1e-10)
    for name in ("running_mean", "running_var", "batches"):
        torch.testing.assert_close(ranks[0][name], one[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("placement", work.PLACEMENTS)
@pytest.mark.parametrize("processes", MANY)
def test_gradients_of_the_joint_loss(found, processes, placement):
    (one,), ranks = found("gradients replicated", 1), found(f"gradients {placement}", processes)
    torch.testing.assert_close(sum(rank["loss"] for rank in ranks), one["loss"], **EXACT)
    torch.testing.assert_close(sum(rank["trunk"] for rank in ranks), one["trunk"], **EXACT)
    for rank in ranks:
        torch.testing.assert_close(rank["super"], one["super"], **EXACT)
        torch.testing.assert_close(rank["sub"], one["sub"][rank["held"]], **EXACT)
        torch.testing.assert_close(rank["weights"], one["weights"][rank["held"]], rtol=0, atol=0)  # drawn alike
    if placement == "sharded":
        assert all(len(rank["held"]) == 8 // processes for rank in ranks)


@pytest.mark.parametrize("placement", work.PLACEMENTS)
@pytest.mark.parametrize("processes", MANY)
def test_the_batch_is_shared_out_whole_and_balanced(found, processes, placement):
    ranks = found(f"gradients {placement}", processes)
    assert sorted(row for rank in ranks for row in rank["rows"].tolist()) == list(range(20))
    plan = work.make_plan()
    for rank in ranks:
        shown = torch.bincount(plan.super_class[rank["rows"]], minlength=8)
        of_held = shown[rank["held"]]
        assert int(of_held.max() - of_held.min()) <= 1
        assert int(shown.sum() - of_held.sum()) == 0


@pytest.mark.parametrize("task", ["pretraining", "relay", "parts"])
@pytest.mark.parametrize("placement", work.PLACEMENTS)
def test_a_whole_pretraining(found, task, placement):
    """Also one that 1, 2, 4 and 8 processes have taken from each other in turn, and one whose batches come in parts."""
    (one,) = found("parts replicated" if task == "parts" else "pretraining replicated", 1)
    ran = {"pretraining": work.FROM_THE_START, "relay": [8], "parts": work.IN_PARTS[placement]}
    for processes in ran[task]:
        ranks = found(f"{task} {placement}", processes)
        assert_same_everywhere(ranks, "losses", "inertia", "labels")
        for name, tensor in one["trunk"].items():
            assert all(torch.equal(rank["trunk"][name], ranks[0]["trunk"][name]) for rank in ranks), name
            torch.testing.assert_close(ranks[0]["trunk"][name], tensor, **ROUNDED)
        assert ranks[0]["losses"] == pytest.approx(one["losses"], rel=1e-6)  # added up in float32
        assert torch.equal(ranks[0]["labels"], one["labels"])
        if task == "pretraining":
            assert len(one["kept"]) == 2
            assert all(map(torch.equal, ranks[0]["kept"], one["kept"]))
        if placement == "sharded":  # each holds its part of the heads only
            assert [rank["rows"] for rank in ranks] == [one["rows"] // processes] * processes


def test_super_clusters_are_spread_by_size():
    assert spread([10, 10, 10], 1) == [(0,), (0,), (0,)]
    assert spread([50, 10, 30, 20], 2) == [(0,), (0,), (1,), (1,)]  # 60 and 50
    assert spread([50, 10], 6) == [(0, 1, 2, 3, 4), (5,)]
    assert spread([0, 8], 4) == [(0,), (1, 2, 3)]
    everyone = spread([7, 1, 9, 2], 64)
    assert sorted(rank for team in everyone for rank in team) == list(range(64))
    # the slowest team's share is within a process of what 64 equal shares would be
    assert max(size / len(team) for size, team in zip([7, 1, 9, 2], everyone, strict=True)) < 19 / 60


# --- a process that dies


def test_only_one_module_knows_of_processes():
    package = Path(dclib.distributed.__file__).parent
    knowing = [p.name for p in package.rglob("*.py") if "torch.distributed" in p.read_text(encoding="utf-8")]
    assert sorted(knowing) == ["distributed.py", "launch.py"]  # which names the engine it starts, and imports nothing


DYING = """
import os, sys, torch
from dclib.distributed import PeerLostError, all_reduce_sum, process_group, rank

def sum_for_ever():
    with process_group():
        all_reduce_sum(torch.ones(1))
        if rank() == 1:
            os.kill(os.getpid(), 9)
        try:
            while True:
                all_reduce_sum(torch.ones(1))
        except PeerLostError as error:
            os.write(1, f"{error}\\n".encode())  # one write: an unbuffered print is two, and another's comes between
            sys.exit(3)

children = []
for number in range(3):
    children.append(os.fork())
    if not children[-1]:
        os.environ["RANK"] = str(number)
        try:
            sum_for_ever()
        except SystemExit as end:
            os._exit(end.code)
        finally:
            os._exit(1)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_a_process_that_dies_ends_the_others_with_a_sentence(tmp_path):
    began = time.monotonic()
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20_000 + os.getpid() % 20_000), "WORLD_SIZE": "3"}
    command = [sys.executable, "-c", DYING]
    done = subprocess.run(
        command, env=environment(**address), capture_output=True, text=True, timeout=60
    )  # never hangs
    *said, statuses = done.stdout.splitlines()
    assert statuses == f"3 {-signal.SIGKILL} 3"
    assert sorted(line[: len("rank 0")] for line in said) == ["rank 0", "rank 2"]
    for line in said:
        assert "of 3 has lost another process" in line
        assert "Start the run again: it continues from its last checkpoint" in line
    assert time.monotonic() - began < 60
    assert issubclass(PeerLostError, RuntimeError)


@pytest.mark.parametrize(
    ("message", "is_lost"),
    [
        ("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1", True),
        ("NCCL communicator was aborted on rank 0.", True),
        ("Sizes of tensors must match except in dimension 0.", False),
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", False),
    ],
)
def test_a_connection_lost_in_the_backward_pass_is_a_lost_process(message, is_lost, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *arguments, **options: None)
    with pytest.raises(RuntimeError) as caught, process_group():
        raise RuntimeError(message)
    assert isinstance(caught.value, PeerLostError) == is_lost
    assert message in str(caught.value)
    assert ("has lost another process of the run" in str(caught.value)) == is_lost


def test_a_process_that_waits_for_another_leaves_when_it_is_asked(tmp_path):
    """Within 5 seconds, whatever it waits for: 3 of them are left to the other, which may be about to leave too."""
    script = [sys.executable, str(HERE / "waiting_processes.py"), str(tmp_path)]
    done = subprocess.run(script, env=environment(), capture_output=True, text=True, timeout=100)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert sorted((what, name) for what, name, *_ in rows) == sorted((what, n.name) for what, n in WAITS), done.stderr
    assert all(status == ("130" if name == "SIGINT" else "75") for _, name, status, _ in rows), rows
    assert all(float(seconds) < 5 for *_, seconds in rows), rows
