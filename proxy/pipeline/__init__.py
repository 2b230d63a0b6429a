"""The data plane: one request, read top to bottom in `serve`. Each other file is one of its steps."""
