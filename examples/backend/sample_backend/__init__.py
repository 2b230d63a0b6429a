"""The rooms of the sample backend: one module per app, and the four they share.

`jobs` keeps what was started, `bodies` reads and checks what was sent, `failures` fails on demand, `charges` holds
the price list that the apps report. `app.py`, one folder up, puts them together.
"""
