"""A picture with some groups closed: one box for each, with what is in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gradwitness.report.picture.groups import Group, kinds
from gradwitness.report.picture.picture import Arrow, Box, Flow, Picture, Role
from gradwitness.verdict import worst

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_LINES = 3
LEGEND = (
    "A box with a second edge behind it holds several nodes; its arrows are those that leave it."
)


def fold(
    picture: Picture, root: Group, opened: set[Group], inside: set[int] | None = None
) -> Picture:
    """Draw the groups that are not opened as one box each.

    Of a picture of a part only the boxes ``inside`` are shown, and what is next to them.
    """
    owners: dict[str, str] = {}
    units: list[tuple[int, Box, list[int]]] = []
    for member in visible(root, opened):
        numbers = sorted(member.boxes()) if isinstance(member, Group) else [member]
        box = (
            _closed(picture, member, numbers)
            if isinstance(member, Group)
            else picture.boxes[member]
        )
        units.append((numbers[0], box, numbers))
        owners.update((picture.boxes[n].key, box.key) for n in numbers)
    arrows = _joined(picture, owners)
    if inside is not None:
        kept = {box.key for _, box, numbers in units if not inside.isdisjoint(numbers)}
        arrows = tuple(a for a in arrows if a.source in kept or a.target in kept)
        kept |= {key for a in arrows for key in (a.source, a.target)}
        units = [unit for unit in units if unit[1].key in kept]
    boxes = tuple(box for _, box, _ in sorted(units, key=lambda unit: unit[0]))
    defined = {picture.boxes[n].note for *_, numbers in units for n in numbers}
    picture = replace(define(picture, defined), boxes=boxes, arrows=arrows)
    if any(box.role is Role.GROUP for box in boxes):
        picture = replace(picture, legend=(LEGEND, *picture.legend))
    return picture


def define(picture: Picture, shown: set[str]) -> Picture:
    """Leave out of the legend what defines kinds of node that are not shown."""
    left_out = {box.note for box in picture.boxes} - shown
    return replace(picture, legend=tuple(s for s in picture.legend if s not in left_out))


def visible(group: Group, opened: set[Group]) -> Iterator[Group | int]:
    """Yield what is shown of a group: closed groups, and the numbers of single boxes."""
    for member in group.members:
        if isinstance(member, Group) and member in opened:
            yield from visible(member, opened)
        else:
            yield member


def _joined(picture: Picture, owners: dict[str, str]) -> tuple[Arrow, ...]:
    """Lead the arrows to the visible boxes; those that join the same two become one."""
    bundles: dict[tuple[str, str, Flow], list[Arrow]] = {}
    for arrow in picture.arrows:
        ends = owners[arrow.source], owners[arrow.target]
        if ends[0] != ends[1]:
            bundles.setdefault((*ends, arrow.flow), []).append(arrow)
    return tuple(_bundle(source, target, arrows) for (source, target, _), arrows in bundles.items())


def _bundle(source: str, target: str, arrows: list[Arrow]) -> Arrow:
    if len(arrows) == 1:
        return replace(arrows[0], source=source, target=target)
    shapes = {arrow.shape for arrow in arrows}
    labels = list(dict.fromkeys(arrow.label for arrow in arrows))
    what = labels[0] if len(labels) == 1 and arrows[0].flow is Flow.MISSING else ""
    return Arrow(
        source,
        target,
        arrows[0].flow,
        what or f"{len(arrows)} gradients" if arrows[0].flow is not Flow.SAVED else "",
        shape=shapes.pop() if len(shapes) == 1 else "",
        norms=tuple(norm for arrow in arrows for norm in arrow.norms),
        wrong=any(arrow.wrong for arrow in arrows),
    )


def key_of(numbers: list[int]) -> str:
    """Return the key of the box that stands for boxes with these numbers."""
    return f"g{numbers[0]}.{len(numbers)}"


def _closed(picture: Picture, group: Group, numbers: list[int]) -> Box:
    """Return the box of a closed group."""
    boxes = [picture.boxes[n] for n in numbers]
    judged = [box for box in boxes if box.verdict is not None]
    verdict = worst([box.verdict for box in judged if box.verdict]) if judged else None
    first = group.members[0] if group.repeats else group
    shown = sorted(first.boxes()) if isinstance(first, Group) else [first]
    operations = sorted(
        (picture.boxes[n] for n in shown if picture.boxes[n].when is not None),
        key=lambda box: box.when or 0,
    )
    lines = [f"{len(boxes)} nodes", *_equations(operations, group.repeats)]
    lines += _leaves(picture, group)
    lines += [box.short for box in boxes if box.role is Role.MISSING]
    text = ""
    if verdict is not None:
        bad = [box for box in judged if box.verdict is verdict]
        text = f"{verdict.value}, all {len(judged)} nodes"
        if len(bad) < len(judged):
            text = f"{verdict.value}, {len(bad)} of {len(judged)} nodes: {bad[0].title}"
    return Box(
        key=key_of(numbers),
        role=Role.GROUP,
        title=group.name,
        lines=tuple(lines),
        verdict=verdict,
        verdict_text=text,
        note=f"{group.name}: {kinds(picture, numbers)}.",
        short=f"{group.name}: {len(boxes)} nodes",
        path=group.path,
        inherits=any(box.inherits for box in boxes),
    )


def _equations(operations: list[Box], repeats: int) -> list[str]:
    """Return the first equations that compute, of a repeated stretch those of its first part."""
    computing = [box for box in operations if not box.is_view] or operations
    lines = [box.lines[0] for box in computing[:_MOST_LINES] if box.lines]
    if len(operations) > len(lines):
        lines.append(f"... {len(operations) - len(lines)} more operations")
    return (["the first of them:", *lines]) if repeats and lines else lines


def _leaves(picture: Picture, group: Group) -> Iterator[str]:
    """Yield the gradients of the parameters in it, of a repeated stretch those that correspond."""
    parts = group.members if group.repeats else [group]
    columns = [
        [picture.boxes[n] for n in numbers if picture.boxes[n].role is Role.LEAF]
        for part in parts
        for numbers in [sorted(part.boxes()) if isinstance(part, Group) else [part]]
    ]
    for row in list(zip(*columns, strict=False))[:_MOST_LINES]:
        ends = dict.fromkeys(f"{box.short.partition(' ')[0]}.grad" for box in (row[0], row[-1]))
        norms = tuple(norm for box in row for norm in box.norms)
        yield Arrow("", "", Flow.GRADIENT, " to ".join(ends), row[0].shape, norms).text
