"""Pure decisions: who may use what, what it costs, which window and which period apply.

Nothing here reads a clock, a file, the environment or the network, and nothing awaits: time enters as `now`.
"""
