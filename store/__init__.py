"""The only room with a database. One verb is one transaction; nothing here depends on SQLite or PostgreSQL alone."""
