"""wgclip.distributed with torch.distributed: gloo processes, DDP, FSDP2, and ranks that die or hang."""

from __future__ import annotations

import os
import signal
import tempfile
import time
import warnings
from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from wgclip import distributed


def model(dtype):
    torch.manual_seed(3)
    made = nn.Sequential(nn.Linear(13, 17), nn.ReLU(), nn.Linear(17, 7), nn.Linear(7, 1)).to(dtype)
    return made


def gradients(dtype):
    """One whole model with gradients of every size."""
    whole = model(dtype)
    whole(torch.randn(5, 13, dtype=dtype)).sum().backward()
    grads = [p.grad for p in whole.parameters()]
    grads[0].view(-1)[3] = 1e20
    grads[0].view(-1)[100] = -3e19
    grads[2].view(-1)[5] = 1e-25
    return whole


def whole_norm(dtype):
    flat = torch.cat([p.grad.flatten() for p in gradients(dtype).parameters()])
    array = flat.float().numpy() if dtype == torch.bfloat16 else flat.numpy()
    return float(oracle.norm(array))


def start(rank, count, file):
    # The same random numbers as those of the test's process are made by model() itself.
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=count)


def replicas(rank, count, file, dtype, results):
    """DDP: each rank has all gradients."""
    start(rank, count, file)
    whole = gradients(dtype)
    norm = distributed.clip_grad_norm_(whole.parameters(), 1.0)
    results.put((rank, float(norm), [p.grad.double().numpy() for p in whole.parameters()]))
    dist.barrier()
    dist.destroy_process_group()


def shards(rank, count, file, dtype, results):
    """FSDP2: each rank has its rows."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor, Replicate, Shard

    start(rank, count, file)
    mesh = init_device_mesh("cpu", (count,))
    whole = gradients(dtype)
    parameters = []
    for n, p in enumerate(whole.parameters()):
        # Some by rows, some by columns, one replicated.
        place = [Replicate()] if n == 3 else [Shard(min(n % 2, p.ndim - 1))]
        sharded = nn.Parameter(distribute_tensor(p.detach(), mesh, place))
        sharded.grad = distribute_tensor(p.grad, mesh, place)
        parameters.append(sharded)
    norm = distributed.clip_grad_norm_(parameters, 1.0)
    results.put((rank, float(norm), [p.grad.full_tensor().double().numpy() for p in parameters]))
    dist.barrier()
    dist.destroy_process_group()


def fully_sharded(rank, count, file, dtype, results):
    """FSDP2 itself, in a training step."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    start(rank, count, file)
    mesh = init_device_mesh("cpu", (count,))
    sharded = model(dtype)
    for layer in sharded:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    torch.manual_seed(11)
    sharded(torch.randn(8, 13, dtype=dtype)).square().sum().backward()
    before = [p.grad.full_tensor() for p in sharded.parameters()]
    norm = distributed.clip_grad_norm_(sharded.parameters(), 0.01)
    flat = torch.cat([g.flatten() for g in before]).numpy()
    after = torch.cat([p.grad.full_tensor().flatten() for p in sharded.parameters()])
    results.put((rank, float(norm), [flat, after.numpy()]))
    dist.barrier()
    dist.destroy_process_group()


def spawn(work, count, dtype):
    context = mp.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        made = mp.spawn(work, (count, f"{folder}/store", dtype, results), nprocs=count, join=False)
        found = [results.get(timeout=120) for _ in range(count)]
        while not made.join(timeout=60):
            pass
    return sorted(found, key=lambda of: of[0])


@pytest.mark.parametrize("work", [replicas, shards])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_norm_for_every_number_of_ranks(work, dtype):
    torch.manual_seed(3)
    expected, first = whole_norm(dtype), None
    for count in (1, 2, 3, 4):
        for _, norm, clipped in spawn(work, count, dtype):
            assert norm == expected
            first = first or clipped
            assert all((a == b).all() for a, b in zip(first, clipped))


def test_fsdp2():
    for count in (2, 3):
        for _, norm, (before, after) in spawn(fully_sharded, count, torch.float32):
            assert norm == float(oracle.norm(before))
            assert np.allclose(after, before * (0.01 / norm), rtol=1e-5)


def dying(rank, count, file, how, results):
    start(rank, count, file)
    whole = gradients(torch.float32)
    before = [p.grad.clone() for p in whole.parameters()]
    dist.barrier()
    if rank == 1:
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    begun = time.monotonic()
    try:
        distributed.clip_grad_norm_(whole.parameters(), 1.0, timeout=3)
        said = "nothing"
    except distributed.AllReduceError as error:
        said = str(error)
    same = all(torch.equal(a, p.grad) for a, p in zip(before, whole.parameters()))
    results.put((rank, said, same, time.monotonic() - begun))
    results.close()
    results.join_thread()
    os._exit(0)


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_rank_that_is_lost(how):
    context = mp.get_context("spawn")
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        ranks = [context.Process(target=dying, args=(rank, 3, f"{folder}/store", how, results)) for rank in range(3)]
        for rank in ranks:
            rank.start()
        found = [results.get(timeout=90) for _ in range(2)]
        for rank in ranks:
            rank.kill()
            rank.join()
    for _, said, same, seconds in found:
        assert "died, hangs" in said and same and seconds < 20, (said, same, seconds)


def partial(rank, count, file, dtype, results):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, Replicate

    start(rank, count, file)
    mesh = init_device_mesh("cpu", (count,))
    p = nn.Parameter(DTensor.from_local(torch.ones(4), mesh, [Replicate()]))
    p.grad = DTensor.from_local(torch.ones(4), mesh, [Partial()])
    try:
        distributed.clip_grad_norm_([p], 1.0)
        said = "nothing"
    except ValueError as error:
        said = str(error)
    results.put((rank, said, None))
    dist.barrier()
    dist.destroy_process_group()


def two_ways(rank, count, file, dtype, results):
    """FSDP2 beside tensor parallelism: shards of its own kind."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    start(rank, count, file)
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    torch.manual_seed(3)
    both = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))
    parallelize_module(both, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(both, mesh=mesh["dp"])
    torch.manual_seed(5)
    both(torch.randn(4, 12)).square().mean().backward()
    before = torch.cat([p.grad.full_tensor().flatten() for p in both.parameters()]).numpy()
    norm = distributed.clip_grad_norm_(both.parameters(), 0.1)
    results.put((rank, float(norm), before))
    dist.barrier()
    dist.destroy_process_group()


def test_fsdp2_beside_tensor_parallelism():
    for _, norm, before in spawn(two_ways, 4, None):
        assert norm == float(oracle.norm(before))


def experts(rank, count, file, dtype, results):
    """A mixture of experts: dense gradients on all ranks, those of experts divided among pairs of ranks, and replicated over the others."""
    start(rank, count, file)
    dense, expert = (nn.Parameter(torch.zeros(n, dtype=dtype)) for n in (1, 2))
    dense.grad = torch.tensor([3.0], dtype=dtype)
    expert.grad = torch.tensor([[2.0, 4.0], [6.0, 8.0]][rank % 2], dtype=dtype)
    replicas = [dist.new_group(list(range(n, count, 2))) for n in range(min(count, 2))][rank % 2]
    named = [("dense", dense), ("layer.expert", expert)]
    said = []
    ways = ({}, {"norm_type": 1.0 + (rank % 2)}, {"max_norm": 1.0 + rank}, {"sharded": None if rank else False})
    # One rank alone has all that there is.
    for wrong in ways if count > 1 else ():
        try:
            distributed.clip_grad_norm_(named, **{"max_norm": 1.0, "timeout": 60, **wrong})
        except ValueError as error:
            said.append(str(error))
    norms = []
    ways = [{"replicated": [([expert], replicas)]}, {"replicated": [(expert, replicas)], "sharded": False}]
    if count <= 2:
        ways += [{"sharded": lambda p: p is expert}, {"sharded": [expert]}, {"sharded": expert}]
    for way in ways:
        norms.append(float(distributed.clip_grad_norm_(named, 100.0, **way)))
    norm = float(distributed.clip_grad_norm_(named, 1.0, **ways[0]))
    results.put((rank, [*norms, norm], said, expert.grad.double().tolist()))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_dense_gradients_beside_those_of_experts(count, dtype):
    squares = 9 + 4 + 16 + (36 + 64 if count > 1 else 0)
    expected = float(oracle.root(Fraction(squares), np.float64 if dtype == torch.float64 else np.float32))
    for _, norms, said, expert in spawn(experts, count, dtype):
        assert set(norms) == {expected}
        assert expert[0] == pytest.approx(2 / expected, 1e-2) or expert[0] == pytest.approx(6 / expected, 1e-2)
        if count == 1:
            assert said == []
            continue
        differ, norm, limit, others = said
        assert "layer.expert" in differ and "differs from rank to rank" in differ
        assert "norm_type" in norm and "max_norm" in limit and "all the same sharded" in others


def mixed(rank, count, file, dtype, results):
    """Tensor parallelism, with a layer that is on all ranks as it is."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor, Shard

    start(rank, count, file)
    mesh = init_device_mesh("cpu", (count,))
    whole = torch.arange(1.0, 9.0)
    sharded, plain = nn.Parameter(distribute_tensor(whole, mesh, [Shard(0)])), nn.Parameter(torch.zeros(2))
    sharded.grad, plain.grad = distribute_tensor(whole, mesh, [Shard(0)]), torch.tensor([3.0, 4.0])
    try:
        distributed.clip_grad_norm_([("tp", sharded), ("norm.weight", plain)], 100.0)
        said = ""
    except ValueError as error:
        said = str(error)
    norm = float(distributed.clip_grad_norm_([sharded, plain], 100.0, sharded=False))
    results.put((rank, norm, said))
    dist.barrier()
    dist.destroy_process_group()


def test_plain_gradients_beside_dtensors_are_to_be_explained():
    expected = float(oracle.root(Fraction(sum(n * n for n in range(1, 9)) + 25), np.float32))
    for _, norm, said in spawn(mixed, 2, None):
        assert norm == expected and "norm.weight" in said and "DTensor" in said


def disordered(rank, count, file, dtype, results):
    """Gradients that have the same elements in another order, and experts that a list forgets."""
    start(rank, count, file)
    said = []
    for values in ([[3.0, 4.0], [4.0, 3.0]], [[1.0, 2.0], [1.5, 1.5]]):
        p = nn.Parameter(torch.zeros(2))
        p.grad = torch.tensor(values[rank])
        try:
            distributed.clip_grad_norm_([p], 1.0, timeout=60)
        except ValueError as error:
            said.append("differs" in str(error))
    # Rows and columns of a larger one, which change places.
    p = nn.Parameter(torch.zeros(9000))
    p.grad = torch.zeros(9000)
    p.grad[[5, 4096 + 5][rank]] = 1
    experts = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for n, expert in enumerate(experts):
        expert.grad = torch.full((1,), 1.0 + n + rank)
    ways = (([p], None), (experts, experts[:1]), (experts, ["parameter 0"]), (experts[:1], experts))
    for parameters, sharded in ways:
        try:
            distributed.clip_grad_norm_(parameters, 1.0, sharded=sharded, timeout=60)
        except (TypeError, ValueError) as error:
            said.append(type(error).__name__)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        distributed.clip_grad_norm_(iter(()), 1.0, sharded=False)
    results.put((rank, said, ["no parameters" in str(of.message) for of in caught]))
    dist.barrier()
    dist.destroy_process_group()


def test_ranks_that_have_the_same_elements_in_another_order():
    for _, said, warned in spawn(disordered, 2, None):
        assert said == [True, True, "ValueError", "ValueError", "TypeError", "ValueError"] and warned == [True]


def uneven(rank, count, file, dtype, results):
    """One rank has two types, and one is refused: all are told at once."""
    start(rank, count, file)
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1, dtype=torch.float64))][: 2 - rank]
    for p, value in zip(parameters, (3.0, 4.0)):
        p.grad = torch.full_like(p, value)
    norm = float(distributed.clip_grad_norm_(parameters, 10.0, sharded=False))
    said = []
    for how in ("refused", "elsewhere"):
        given = parameters[:1]
        if how == "refused" and rank == 1:
            given[0].grad = torch.ones(1).to_sparse()
        if how == "elsewhere":
            given[0].grad = None if rank == 0 else torch.ones(1)
        try:
            distributed.clip_grad_norm_(given, 1.0, timeout=60)
        except (TypeError, ValueError, distributed.AllReduceError) as error:
            said.append(type(error).__name__)
    results.put((rank, norm, said))
    dist.barrier()
    dist.destroy_process_group()


def test_ranks_that_differ():
    assert spawn(uneven, 2, None) == [(0, 5.0, ["AllReduceError", "ValueError"]), (1, 5.0, ["TypeError", "ValueError"])]


def test_partial_gradients_are_refused():
    for _, said, _ in spawn(partial, 2, None):
        assert "redistribute" in said
