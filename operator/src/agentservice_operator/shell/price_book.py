"""Decides how the price book's ConfigMap is followed, and who hears that it cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable

from agentservice_api import EventReason
from agentservice_operator.kube.client import Client
from agentservice_operator.kube.events import EventType, Recorder
from agentservice_operator.kube.informer import Informer
from agentservice_operator.kube.resources import CONFIGMAPS
from agentservice_operator.manifest import Manifest
from agentservice_operator.prices import PlatformPrices, trim_price_book

logger = logging.getLogger(__name__)


class PriceBookWatch:
    """Watches one ConfigMap of the operator's own namespace. ``changed`` is called when other prices are in force."""

    def __init__(
        self,
        *,
        client: Client,
        recorder: Recorder,
        prices: PlatformPrices,
        namespace: str,
        changed: Callable[[], None],
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._prices = prices
        self._recorder = recorder
        self._namespace = namespace
        self._on_prices = changed
        self.informer = Informer(
            client=client,
            resource=CONFIGMAPS,
            random=random,
            clock=clock,
            namespaces=(namespace,),
            field_selector=f"metadata.name={prices.config_map}",
            trim=trim_price_book,
            on_change=self._changed,
        )

    def tell(self) -> None:
        """Say that there is nothing to read, which no event of a watch says."""
        if self._prices.problem:
            logger.error(
                "the price book %s/%s cannot be used: %s; the last good prices stay in force",
                self._namespace,
                self._prices.config_map,
                self._prices.problem,
            )

    def _changed(self, old: Manifest | None, new: Manifest | None) -> None:
        if old is not None and new is not None and old["data"] == new["data"]:
            return
        changed = self._prices.take(new)
        self.tell()
        if new is not None and self._prices.problem:
            self._recorder.record(
                new,
                event_type=EventType.WARNING,
                reason=EventReason.PRICE_BOOK_REFUSED.value,
                action="Read",
                note=f"{self._prices.problem}; the last good prices stay in force",
            )
        if changed:
            assert self._prices.book is not None, "prices are in force only once they were read"  # noqa: S101
            logger.info("the price book has %d prices", len(self._prices.book.prices))
            self._on_prices()
