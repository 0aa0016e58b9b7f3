"""Programs that run on some ranks at once; rank 0 writes what their witnesses say, as JSON.

Its annotations are evaluated, since torch reads those of hooks.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import gradwitness as gw

fn: Any = __import__("torch.distributed.nn.functional", fromlist=["functional"])


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


def data(rank: int = -1) -> Any:
    torch.manual_seed(7 + (dist.get_rank() if rank < 0 else rank))
    return torch.randn(6, 8), torch.randn(6, 4)


def step(net: Any) -> Any:
    x, y = data()
    return ((net(x) - y) ** 2).mean()


OPTIONS: dict[str, Any] = {}  # of watching


def watched(net: Any, *, watch: Any = None) -> gw.Witness:
    with gw.watch(net if watch is None else watch, **OPTIONS) as witness:
        step(net).backward()
    return witness


Bucket: Any = getattr(dist, "GradBucket")  # noqa: B009 (torch reads it from the annotation)
Future: Any = torch.futures.Future[torch.Tensor]


def replicated(**options: Any) -> gw.Witness:
    return watched(DistributedDataParallel(network(), **options))


def replicated_views() -> gw.Witness:
    net = DistributedDataParallel(network(), gradient_as_bucket_view=True)
    with gw.watch(net) as witness:
        for _ in range(2):
            net.zero_grad(set_to_none=False)
            step(net).backward()
    return witness


def hook_that_forgets_to_divide() -> gw.Witness:
    net = DistributedDataParallel(network())

    def hook(_: object, bucket: Bucket) -> Future:
        work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    net.register_comm_hook(None, hook)
    return watched(net)


def hook_that_does_nothing() -> gw.Witness:
    net = DistributedDataParallel(network())

    def hook(_: object, bucket: Bucket) -> Future:
        future: Any = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    net.register_comm_hook(None, hook)
    return watched(net)


def wrapper_unknown() -> gw.Witness:
    net = DistributedDataParallel(network())
    loss = step(net)
    with gw.watch() as witness:
        loss.backward()
    return witness


def without_sync() -> gw.Witness:
    net = DistributedDataParallel(network())
    with net.no_sync(), gw.watch(net) as witness:
        step(net).backward()
    return witness


def other_model() -> gw.Witness:
    net, other = DistributedDataParallel(network()), network()
    step(net).backward()
    return watched(other, watch=nn.ModuleList([net, other]))


class Half(torch.autograd.Function):
    """x, with half its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return 1 * x

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0] / 2


class Halved(nn.Module):
    """A model with a fault."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: Any) -> Any:
        """Run it."""
        half: Any = Half.apply
        return half(self.inner(x))


def fault_in_a_replica() -> gw.Witness:
    return watched(DistributedDataParallel(Halved()))


def group_unused() -> gw.Witness:
    return watched(network())


def sharded_flat() -> gw.Witness:
    return watched(FullyShardedDataParallel(network(), device_id=torch.device("cpu")))


def sharded() -> gw.Witness:
    net, mesh = network(), init_device_mesh("cpu", (2,))
    for layer in (net[0], net[2]):
        fully_shard(layer, mesh=mesh)
    return watched(fully_shard(net, mesh=mesh))


def tensor_parallel() -> gw.Witness:
    mesh, plan = init_device_mesh("cpu", (2,)), {"0": ColwiseParallel(), "2": RowwiseParallel()}
    return watched(parallelize_module(network(), mesh, plan))


def reduced_by_hand() -> gw.Witness:
    net = network()
    with gw.watch(net) as witness:
        step(net).backward()
        for p in net.parameters():
            dist.all_reduce(p.grad)
            p.grad /= 2
    return witness


def reduced_in_one_buffer() -> gw.Witness:
    net = network()
    with gw.watch(net) as witness:
        step(net).backward()
        grads = [p.grad for p in net.parameters()]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat = flat / 2
        begin = 0
        for g in grads:
            g.copy_(flat[begin : begin + g.numel()].view_as(g))
            begin += g.numel()
    return witness


def logged() -> gw.Witness:
    """Share the loss with the other ranks, to print it."""
    net = network()
    with gw.watch(net) as witness:
        loss = step(net)
        loss.backward()
        shared = loss.detach().clone()
        work: Any = dist.all_reduce(shared, async_op=True)
        work.wait()
        (shared / 2).item()
        dist.barrier()
    return witness


def broadcast_first() -> gw.Witness:
    """Send the weights and the data from rank 0, asynchronously."""
    net = network()
    with gw.watch(net) as witness:
        x, y = data()
        weights = [p.data for p in net.parameters()]
        works: list[Any] = [dist.broadcast(t, 0, async_op=True) for t in (*weights, x)]
        for work in works:
            work.wait()
        ((net(x) - y) ** 2).mean().backward()
    return witness


def autograd_collective(name: str) -> gw.Witness:
    net = network()
    with gw.watch(net) as witness:
        out = net(data()[0])
        if name == "all_gather":
            out = torch.cat(fn.all_gather(out))
        elif name == "all_to_all":
            halves = list(out.chunk(2))
            out = torch.cat(fn.all_to_all([torch.empty_like(h) for h in halves], halves))
        elif name == "broadcast":
            out = fn.broadcast(out, 0)
        else:
            out = fn.all_reduce(out)
        (out**2).mean().backward()
    return witness


class Reduce(torch.autograd.Function):
    """The sum over ranks; each rank's loss is its own."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        return grads[0]


class Copy(torch.autograd.Function):
    """x on every rank; its gradient is the sum over ranks."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:  # noqa: ARG004
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def through(function: Any) -> gw.Witness:
    net, head = network(), nn.Linear(4, 2)
    with gw.watch(nn.Sequential(net, head)) as witness:
        (head(function.apply(net(data()[0]))) ** 2).mean().backward()
    return witness


def pipeline() -> gw.Witness:
    """Rank 0 holds the first layer, rank 1 the last; activations and gradients are sent."""
    net = network()
    x, y = data(0)
    if dist.get_rank() == 0:
        first = net[:2]
        with gw.watch(first) as witness:
            h = first(x)
            dist.send(h.detach(), 1)
            g = torch.empty_like(h)
            dist.recv(g, 1)
            h.backward(g)
    else:
        with gw.watch(net[2]) as witness:
            h = torch.empty(6, 16)
            dist.recv(h, 0)
            h.requires_grad_()
            ((net[2](h) - y) ** 2).mean().backward()
            assert h.grad is not None
            dist.send(h.grad, 0)
    return witness


def zero_redundancy() -> gw.Witness:
    net = network()
    optimizer: Any = ZeroRedundancyOptimizer(net.parameters(), torch.optim.SGD, lr=0.1)
    with gw.watch(net) as witness:
        for _ in range(2):
            net.zero_grad()
            step(net).backward()
            optimizer.step()
    return witness


def with_the_bits_of_plain(make: Callable[[], tuple[Any, Callable[[], Any]]]) -> gw.Witness:
    """Run a step plainly, then watched, which must give the same gradients."""
    plain, step = make()
    step()
    net, step = make()
    with gw.watch(net) as witness:
        step()
    for expected, parameter in zip(plain.parameters(), net.parameters(), strict=True):
        pair = (getattr(p.grad, "_local_tensor", p.grad) for p in (expected, parameter))
        assert torch.equal(*pair)
    return witness


def hybrid_sharded() -> gw.Witness:
    """Shard over two ranks, and replicate over all such pairs."""

    def make() -> Any:
        net, (x, y) = network(), data()
        mesh = init_device_mesh(
            "cpu", (dist.get_world_size() // 2, 2), mesh_dim_names=("replicate", "shard")
        )
        for layer in (net[0], net[2], net):
            fully_shard(layer, mesh=mesh)
        return net, lambda: ((net(x) - y) ** 2).mean().backward()

    return with_the_bits_of_plain(make)


def scheduled(schedule: Any) -> gw.Witness:
    """Let torch send micro-batches through layers on several ranks, and gradients back."""

    def make() -> Any:
        net, (x, y), rank = network(), data(0), dist.get_rank()
        part = net[2:] if rank else net[:2]
        stage = PipelineStage(part, rank, 2, torch.device("cpu"))
        run = schedule(stage, n_microbatches=3, loss_fn=lambda out, to: ((out - to) ** 2).mean())
        return part, lambda: run.step(target=y) if rank else run.step(x)

    return with_the_bits_of_plain(make)


PROGRAMS: dict[str, Any] = {
    "replicated": replicated,
    "replicated_views": replicated_views,
    "hook_that_forgets_to_divide": hook_that_forgets_to_divide,
    "hook_that_does_nothing": hook_that_does_nothing,
    "wrapper_unknown": wrapper_unknown,
    "without_sync": without_sync,
    "other_model": other_model,
    "fault_in_a_replica": fault_in_a_replica,
    "group_unused": group_unused,
    "sharded_flat": sharded_flat,
    "sharded": sharded,
    "tensor_parallel": tensor_parallel,
    "reduced_by_hand": reduced_by_hand,
    "reduced_in_one_buffer": reduced_in_one_buffer,
    "logged": logged,
    "broadcast_first": broadcast_first,
    "all_reduce": lambda: autograd_collective("all_reduce"),
    "all_gather": lambda: autograd_collective("all_gather"),
    "all_to_all": lambda: autograd_collective("all_to_all"),
    "broadcast": lambda: autograd_collective("broadcast"),
    "reduce_function": lambda: through(Reduce),
    "copy_function": lambda: through(Copy),
    "pipeline": pipeline,
    "zero_redundancy": zero_redundancy,
    "hybrid_sharded": hybrid_sharded,
    "pipeline_gpipe": lambda: scheduled(ScheduleGPipe),
    "pipeline_1f1b": lambda: scheduled(Schedule1F1B),
}


# The same programs, looked at less thoroughly.
BY_LOOKS = [
    f"{name}, {depth}"
    for name in (
        *("replicated", "hook_that_forgets_to_divide", "hook_that_does_nothing"),
        *("sharded_flat", "sharded", "tensor_parallel"),
    )
    for depth in ("fast", "sample")
]


def said(witness: gw.Witness) -> dict[str, Any]:
    report = witness.report
    return {
        "verdict": report.verdict.value,
        "rows": {f"{row.name} {row.sweep}": row.verdict.value for row in report.rows},
        "reasons": dict(report.reasons()),
        "notes": [[note.kind, note.text] for note in report.notes],
        "wrong": [finding.title for finding in report.wrong],
        "failures": list(witness.tape.failures),
    }


def on_a_rank(rank: int, ranks: int, store: str, names: list[str]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    results = {}
    for name in names or [*PROGRAMS, *BY_LOOKS]:
        program, _, depth = name.partition(", ")
        OPTIONS["depth"] = depth or "full"
        results[name] = said(PROGRAMS[program]())
    if rank == 0:
        Path(store + ".json").write_text(json.dumps(results))
    dist.destroy_process_group()


def main() -> None:
    """Part into the ranks once all is imported, which takes seconds."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    ranks, store, names = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    rank = 0
    others: list[int] = []
    for number in range(1, ranks):
        other = os.fork()
        if not other:
            rank, others = number, []
            break
        others.append(other)
    on_a_rank(rank, ranks, store, names)
    sys.exit(any(os.waitpid(other, 0)[1] for other in others))


if __name__ == "__main__":
    main()
