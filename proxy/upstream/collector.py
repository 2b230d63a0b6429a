"""What /metrics says of backends, read when the page is asked for: nothing is counted per request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy.upstream.client import Upstream


class UpstreamCollector(Collector):
    """The state of every upstream of this process. Labels are names and addresses of the settings."""

    def __init__(self, upstreams: Iterable[Upstream]) -> None:
        self._upstreams = tuple(upstreams)

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "farebox_upstream_waiting", "Requests that wait for a place at a backend.", labels=("upstream",)
        )
        repeated = CounterMetricFamily(
            "farebox_upstream_repeated",
            "Requests that were sent again because a kept connection had ended.",
            labels=("upstream",),
        )
        labels = ("upstream", "target")
        busy = GaugeMetricFamily("farebox_upstream_busy", "Requests that are under way at an address.", labels=labels)
        kept = GaugeMetricFamily("farebox_upstream_kept", "Unused connections to an address.", labels=labels)
        opened = CounterMetricFamily("farebox_upstream_opened", "Connections made to an address.", labels=labels)
        ejected = GaugeMetricFamily("farebox_upstream_ejected", "1 while an address is left out.", labels=labels)
        for upstream in self._upstreams:
            waiting.add_metric((upstream.name,), upstream.waiting)
            repeated.add_metric((upstream.name,), upstream.repeated)
            for state in upstream.states():
                where = (upstream.name, state.address)
                busy.add_metric(where, state.busy)
                kept.add_metric(where, state.kept)
                opened.add_metric(where, state.opened)
                ejected.add_metric(where, int(state.ejected))
        yield from (waiting, repeated, busy, kept, opened, ejected)
