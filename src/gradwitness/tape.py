"""What happened, as plain data: no torch, no arithmetic.

A tape holds the operations that a program ran (calls), the autograd nodes that they left behind
(nodes), and what each backward pass sent through those nodes (sweeps). Values are snapshots: an
in-place operation makes a new value, and the old one keeps its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradwitness._printable import one_line
from gradwitness._record import kept, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gradwitness._steps import Made

# Namespace of calls that are no operations: the program took numbers out of torch.
OUTSIDE = "outside."
HIGHER_ORDER = "higher_order."  # torch's operators that take functions: one call for all they run
# Namespaces of operations that talk to other processes.
COLLECTIVES = "c10d.", "_c10d_functional.", "_c10d_functional_autograd.", "symm_mem."


@record(frozen=True, slots=True)
class Ref:
    """A value's number, where it stands as an argument."""

    value: int


# As the call had it: a reference, a number, text (dtypes and layouts, too), None, or a list.
Argument = Ref | bool | int | float | complex | str | None | tuple["Argument", ...]


@record(frozen=True, slots=True)
class Layout:
    """Where a value lay in memory: views of one storage share it, so writes to one show in all.

    Attributes
    ----------
    storage : int
        Number of the storage, unique on the tape.
    offset, strides : int, tuple of int
        The first element and the steps, in elements.
    """

    storage: int
    offset: int
    strides: tuple[int, ...]


@record(frozen=True, slots=True)
class Value:
    """A tensor at one moment.

    Attributes
    ----------
    id : int
        Position in ``Tape.values``.
    shape : tuple of int
    dtype : str
        Torch's name without the prefix: ``float32``, ``bfloat16``, ``int64``.
    array : ndarray or None
        The numbers, read-only; None where they cannot be had (meta, freed).
    layout : Layout or None
        None where the array is, and where memory holds conjugates or negatives: a lazy view.
    name : str
        The user's name: a parameter's dotted path, else empty.
    requires_grad : bool
        Whether this is a leaf that collects a gradient.
    freed, sparse : bool, int
        Whether its memory was freed or resized before it could be read; of a sparse tensor how many
        terms a place has at most, of which the array has the sum. Such are not kept in files.
    """

    id: int
    shape: tuple[int, ...]
    dtype: str
    array: NDArray[np.generic] | None
    layout: Layout | None = None
    name: str = ""
    requires_grad: bool = False
    freed: bool = False
    sparse: int = 0

    def __post_init__(self) -> None:
        if self.name:
            _fit_to_show(self, "name")


@record(frozen=True, slots=True)
class Source:
    """Where a call comes from.

    Attributes
    ----------
    module, line : str
        Dotted path of the innermost module, if any; ``file:line`` outside torch and gradwitness.
    """

    module: str = ""
    line: str = ""

    def __post_init__(self) -> None:
        _fit_to_show(self, "module", "line")


@record(frozen=True)
class Call:
    """One ATen operation that ran.

    Attributes
    ----------
    id : int
        Position in ``Tape.calls``, which is the order of execution.
    op : str
        With overload: ``aten.addmm.default``.
    arguments : dict of str to Argument
        By the schema's names, in the schema's order, defaults filled in.
    outputs : tuple of (int or None)
        Values returned, in order; None for an undefined output.
    writes : tuple of str
        Names of the arguments that the call changed in place.
    is_view : bool
        Whether the outputs share memory with an argument.
    node : int or None
        Node that this call left behind, or, in a custom function, the node of that function.
    during : int or None
        Node whose backward made this call; None in a forward pass.
    source : Source
    base : int or None
        For an in-place call on a view: the whole base afterwards.
    grad : bool
        Whether autograd could see it: gradients were on, or it ran in a custom function.
    """

    id: int
    op: str
    arguments: dict[str, Argument]
    outputs: tuple[int | None, ...]
    writes: tuple[str, ...] = ()
    is_view: bool = False
    node: int | None = None
    during: int | None = None
    source: Source = field(default_factory=Source)
    base: int | None = None
    grad: bool = True

    def __post_init__(self) -> None:
        if not self.op.isprintable():
            _fit_to_show(self, "op")

    @kept
    def base_op(self) -> str:
        """The operation without overload, and without the underscore of an in-place form."""
        namespace, name, *_ = self.op.split(".")
        in_place = self.writes and name.endswith("_") and not name.startswith("__")
        return f"{namespace}.{name[:-1] if in_place else name}"

    @kept
    def operands(self) -> list[int]:
        """The values that it takes, in the order of its arguments."""
        given = [a for a in self.arguments.values() if isinstance(a, (Ref, tuple))]
        return [n for argument in given for n in references(argument)]


@record(frozen=True, slots=True)
class Edge:
    """Where a node sends one of its outgoing gradients: input ``index`` of node ``node``."""

    node: int
    index: int


class Kind:
    """The kinds of autograd node, each judged in its own way."""

    OPERATION = "operation"  # left behind by one ATen call
    CUSTOM = "custom"  # a user's autograd.Function
    COPY_SLICES = "copy-slices"  # an in-place operation on a view
    ACCUMULATE = "accumulate"  # adds into the .grad of a leaf
    UNKNOWN = "unknown"  # no call was recorded for it


@record(frozen=True, slots=True)
class Node:
    """One autograd node.

    Attributes
    ----------
    id : int
        Position in ``Tape.nodes``: order of discovery from the roots.
    name : str
        Torch's name without namespace: ``AddmmBackward0``.
    kind : str
        One of `Kind`.
    edges : tuple of (Edge or None)
        One for each differentiable input; None where no gradient is wanted.
    outputs : tuple of (int or None)
        Values that this node stands for, by input index of the node (its forward outputs).
    call : int or None
        The call that left it behind.
    inner : tuple of int
        Of a custom function: the calls of its forward, in order.
    leaf : int or None
        Of an accumulator: the leaf value.
    saved : tuple of (str, int or None)
        Saved tensors: attribute name and value, None where the value is not on the tape.
    """

    id: int
    name: str
    kind: str
    edges: tuple[Edge | None, ...]
    outputs: tuple[int | None, ...]
    call: int | None = None
    inner: tuple[int, ...] = ()
    leaf: int | None = None
    saved: tuple[tuple[str, int | None], ...] = ()

    def __post_init__(self) -> None:
        _fit_to_show(self, "name")


@record(frozen=True, slots=True)
class NodeRun:
    """One run of a node in a backward pass: the gradients that came in and went out.

    Attributes
    ----------
    node : int
    incoming : tuple of (int or None)
        Over the node's forward outputs; None stands for an undefined gradient, which counts as
        zero.
    outgoing : tuple of (int or None)
        Over its edges.
    changed : tuple of int
        Indices in ``incoming`` whose memory the node wrote to.
    summed : bool
        Whether autograd had to sum a custom function's gradient to the input's shape.
    after : int
        How many calls had run when it ended.
    seen, steps : bool, tuple of Made
        Whether a dispatch mode was on, so that its operations were seen; those of a custom
        function's backward, which are not kept in files.
    """

    node: int
    incoming: tuple[int | None, ...]
    outgoing: tuple[int | None, ...]
    changed: tuple[int, ...] = ()
    summed: bool = False
    after: int = 0
    seen: bool = False
    steps: tuple[Made, ...] = field(default=(), compare=False)


@record(frozen=True, slots=True)
class LeafUpdate:
    """What a backward pass did to the ``.grad`` of one leaf (values, or None for no gradient)."""

    node: int
    before: int | None
    after: int | None


LEAVING, AFTERWARDS = "leaving: ", "after accumulation: "


@dataclass(frozen=True)
class Sweep:
    """One backward pass.

    Attributes
    ----------
    roots : tuple of (Edge, value or None)
        The entries of the graph, each with its initial gradient (None: ones).
    node_runs : tuple of NodeRun
        In the order of execution.
    leaves : tuple of LeafUpdate
    captured : tuple of (Edge, value or None)
        What ``torch.autograd.grad`` returned, by the edge at which it was taken.
    limited_to : tuple of Edge, or None
        The edges of the inputs that the program asked for; other branches did not run.
    after : int
        How many calls had run when the pass began.
    hooks : tuple of (Edge, str)
        Where the program had hooks on gradients when the pass began, and which. Those on all that a
        node sends begin with `LEAVING`, at its input 0; those on ``.grad`` with `AFTERWARDS`.
    """

    roots: tuple[tuple[Edge, int | None], ...]
    node_runs: tuple[NodeRun, ...]
    leaves: tuple[LeafUpdate, ...] = ()
    captured: tuple[tuple[Edge, int | None], ...] = ()
    limited_to: tuple[Edge, ...] | None = None
    after: int = 0
    hooks: tuple[tuple[Edge, str], ...] = ()


REDUCED = "reduced across ranks outside the record"
COMPILED = "compiled code ran eagerly inside watch: the gradients that it computes were not judged"


@dataclass(frozen=True)
class Unseen:
    """Something that happened to a gradient outside of what was recorded.

    Attributes
    ----------
    reason, line : str
        The line is the program's, or empty.
    node : int or None
        The accumulator of the leaf whose ``.grad`` it is; None for all of the pass or step.
    sweep : int or None
        The pass whose result it was; None if no recorded pass had added to it.
    after : int or None
        The ``.grad`` when the recording noticed; None for none.
    """

    reason: str
    node: int | None
    sweep: int | None
    after: int | None = None
    line: str = ""

    def __post_init__(self) -> None:
        _fit_to_show(self, "reason", "line")


@dataclass(frozen=True)
class Ending:
    """The exception that ended a block, and the line (``file:line``) that raised it."""

    error: str
    line: str

    def __post_init__(self) -> None:
        _fit_to_show(self, "error", "line")


@dataclass(frozen=True)
class Tape:
    """A recorded program.

    Attributes
    ----------
    values, calls, nodes, sweeps : sequence
        Of the first three, ``id`` is the position; passes are in the order in which they began.
    about, parameters : dict of str to str, tuple of int
        Versions, platform, thread counts; the models' parameters, as they were when first met.
    complete, replayable, rewritten : bool, bool, callable or None
        Whether no values were freed to save memory; or none that a replay starts from; while the
        tape grows, whether a value's memory held other numbers since, by no call.
    failures : tuple of str
        Failures of gradwitness itself while recording: nothing was recorded afterwards.
    unseen, ended, unused : sequence of Unseen, Ending or None, sequence of (str, str)
        What the record did not see, what cut it short, functions (name, line) that nothing used.
    """

    values: Sequence[Value]
    calls: Sequence[Call]
    nodes: Sequence[Node]
    sweeps: Sequence[Sweep]
    about: dict[str, str] = field(default_factory=dict)
    parameters: tuple[int, ...] = ()
    complete: bool = True
    replayable: bool = True
    failures: tuple[str, ...] = ()
    unseen: Sequence[Unseen] = ()
    ended: Ending | None = None
    unused: Sequence[tuple[str, str]] = ()
    rewritten: Callable[[int], bool] | None = None

    def leaves(self) -> Iterator[tuple[Node, Value]]:
        """Yield each accumulator with the leaf whose gradient it collects, by leaf order."""
        accumulators = (node for node in self.nodes if node.kind == Kind.ACCUMULATE)
        pairs = ((node, self.values[node.leaf]) for node in accumulators if node.leaf is not None)
        yield from sorted(pairs, key=lambda pair: pair[1].id)


def _fit_to_show(shown: object, *names: str) -> None:
    """Escape unprintable characters in names, once for all who show them."""
    for name in names:
        if not (text := getattr(shown, name)).isprintable():
            object.__setattr__(shown, name, one_line(text))


def references(argument: Argument) -> list[int]:
    """Return the values that an argument refers to, in order."""
    if isinstance(argument, Ref):
        return [argument.value]
    return [n for a in argument for n in references(a)] if isinstance(argument, tuple) else []
