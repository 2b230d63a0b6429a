"""Facts from outside: settings, files and their changes, the clock, the log, measurements."""
