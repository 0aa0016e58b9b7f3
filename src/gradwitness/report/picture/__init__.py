"""Pictures of the labelled graph, from records to files.

`graph.draw` makes the records of a judged tape (`picture.Picture`: boxes and arrows, by keys).
`groups.grow` arranges the boxes as a tree of modules and repeated stretches, `fold.fold` closes
some of its groups, and `view.view` chooses which. `layout.lay_out` takes sizes and pairs of
numbers, and returns corners and routes: all that another way of drawing needs. `svg`, `dot` and
`typeset` write.
"""
