"""Operator verbs: what the command line and the admin API can do, each once, as a function from a desk to an answer.

One file for each noun. A verb takes checked arguments and returns plain data, or a Refusal; it neither prints nor
knows HTTP. The tables named OPERATIONS are where the commands and the routes come from.
"""
