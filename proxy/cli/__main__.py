"""`python -m proxy.cli`, which is how a serving process starts its children."""

from proxy.cli import main

main(prog_name="farebox")
