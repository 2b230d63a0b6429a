"""What one process counts, for /metrics. Labels are ids of routes and codes of refusals, never anything a client sends.

Counting fails open and takes no lock of ours: a request is never refused because it could not be counted.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from proxy.rulebooks import RulebookStatus

NO_ROUTE = "none"
"""The label of requests that match no route."""

_UPSTREAM_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Until the answer begins: from a cached read to the slowest generation that a time-out lets pass."""

_RESERVE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
"""From one commit of the embedded database to a store that is about to be given up."""


class Metrics:
    """The counters of one process, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "farebox_requests",
            "Requests by route, by outcome (forwarded, or the code of the refusal), and by the class of their status.",
            ("route", "outcome", "status"),
            registry=registry,
        )
        self._upstream = Histogram(
            "farebox_upstream_seconds",
            "Time from forwarding a request until the backend's answer begins.",
            ("route",),
            buckets=_UPSTREAM_SECONDS,
            registry=registry,
        )
        self._reserve = Histogram(
            "farebox_reserve_seconds",
            "Time until the ledger has reserved a quote, or refused to.",
            buckets=_RESERVE_SECONDS,
            registry=registry,
        )
        self._notices = Counter(
            "farebox_policy_notices",
            "Calls that an entry of the policy in mode warn or audit would have stopped or changed.",
            ("rule", "mode"),
            registry=registry,
        )
        self._dropped = Counter(
            "farebox_decisions_dropped",
            "Decisions that were not written down, because too many waited or the store could not answer.",
            registry=registry,
        )
        self._candidate = Counter(
            "farebox_candidate_decisions",
            "Calls that the candidate policy was asked about, by how its decision differs.",
            ("decision",),
            registry=registry,
        )
        self._streams = Gauge(
            "farebox_open_streams", "Answers and WebSockets that are being relayed at this moment.", registry=registry
        )
        self._policy = Gauge(
            "farebox_policy_info", "1 for the revision of the policy in force.", ("revision",), registry=registry
        )
        self._policy_loaded = Gauge(
            "farebox_policy_loaded_timestamp_seconds", "When the policy in force was loaded.", registry=registry
        )
        self._policy_good = Gauge(
            "farebox_policy_last_reload_successful",
            "0 while what is on disk is invalid and the last good policy stays in force.",
            registry=registry,
        )
        self._clients, self._cut = _of_clients(registry)
        # Finding a labelled counter costs more than counting; there are few, so each is looked up once.
        self._found: dict[tuple[str | None, str, int], Counter] = {}
        self._upstream_found: dict[str, Histogram] = {}

    def request(self, route_id: str | None, outcome: str, status: int) -> None:
        """A request was answered: `forwarded`, or refused with the code `outcome`."""
        key = (route_id, outcome, status // 100)
        counter = self._found.get(key)
        if counter is None:
            counter = self._requests.labels(route_id or NO_ROUTE, outcome, f"{status // 100}xx")
            self._found[key] = counter
        counter.inc()

    def noticed(self, rule: str, mode: str) -> None:
        self._notices.labels(rule, mode).inc()

    def decision_dropped(self, count: int = 1) -> None:
        self._dropped.inc(count)

    def candidate(self, decision: str) -> None:
        self._candidate.labels(decision).inc()

    def upstream_answered(self, route_id: str, seconds: float) -> None:
        histogram = self._upstream_found.get(route_id)
        if histogram is None:
            histogram = self._upstream_found[route_id] = self._upstream.labels(route_id)
        histogram.observe(seconds)

    def reserved(self, seconds: float) -> None:
        self._reserve.observe(seconds)

    def stream_opened(self) -> None:
        self._streams.inc()

    def stream_closed(self) -> None:
        self._streams.dec()

    def client_connected(self) -> None:
        self._clients.inc()

    def client_disconnected(self) -> None:
        self._clients.dec()

    def client_cut(self, why: str) -> None:
        self._cut.labels(why).inc()

    def page(self, policy: RulebookStatus) -> bytes:
        """Everything counted so far, in the text format of Prometheus, with the policy as it is at this moment."""
        self._policy.clear()
        self._policy.labels(policy.revision).set(1)
        self._policy_loaded.set(policy.loaded_at.timestamp())
        self._policy_good.set(0 if policy.using_last_good else 1)
        return generate_latest(self._registry)


def _of_clients(registry: CollectorRegistry) -> tuple[Gauge, Counter]:
    """What is counted of connections."""
    open_ = Gauge("farebox_client_connections", "Connections that clients have open.", registry=registry)
    cut = Counter(
        "farebox_client_connections_cut",
        "Connections of clients that were ended: silent ones, ones that made room for others (replaced), ones that "
        "took too little of an answer (slow), ones that there was no room for (refused).",
        ("why",),
        registry=registry,
    )
    return open_, cut
