"""The parts of a model that ship with gptzoo, one file for each kind, and the base classes that all parts share.

Shapes are written with one legend, everywhere:
`B` batch, `T` new tokens, `C` model width, `H` query heads, `G` key/value heads, `D` head width, `V` vocabulary,
`S` keys seen (cache and new).
"""
