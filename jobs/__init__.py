"""The scheduler process: it tidies up. No decision depends on it, however late, twice or never it runs."""
