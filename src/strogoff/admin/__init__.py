"""Administration of a running node: one function a command, its result as data, shown by whoever asked.

The command line (`vmq-admin`) and the HTTP API stand on the same registry. Invariant: a command never formats for a
terminal and never writes to one; it returns the parts of `result`, or raises `CommandError`.
"""
