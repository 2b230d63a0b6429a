"""What a customer may see and do: plans, subscription, quota, credits, models, apps, usage, quotes.

One file for each topic, with the shapes of its answers and the functions that make them. `endpoints` is the table of
them all; `api` serves it; `openapi` describes it. Only `api` knows aiohttp.
"""
