"""The programs: `strogoff` (one module a sub-command, each with `register`) and `vmq-admin`.

Invariant: only what is in here prints, reads the command line, or decides how the process ends.
"""
