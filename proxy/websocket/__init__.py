"""WebSockets (RFC 6455) between a client and a backend: frames pass as they are, and are looked at as they pass."""
