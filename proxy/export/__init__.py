"""The ledger in formats that others read: tables for spreadsheets and scripts, a journal for bookkeepers.

Writers turn rows of `store.export` into text, chunk by chunk; none of them knows the database or keeps what is written.
"""
