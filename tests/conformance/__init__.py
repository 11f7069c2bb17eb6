"""One suite over all stores: what the manual promises, shown by the real program on each of them.

A store may differ from the others only in what its `Capabilities` say; tests ask those and never skip.
"""
