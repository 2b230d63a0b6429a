"""What an operator may see and do over HTTP, on a listener of its own that is never exposed."""
