"""What the broker tells about itself: logs, metrics, the `$SYS` tree.

Invariant: nothing here decides anything; the broker runs the same with all of it switched off.
"""
