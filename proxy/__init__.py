"""Everything that speaks HTTP, and the command line. `proxy.app` is the only place where the rooms are put together."""
