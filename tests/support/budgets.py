"""Budgets for tests: wide ones, unless a test says otherwise."""

from __future__ import annotations

from parleyd.budgets import ByteBudget, DeviceShare, FairPlaces, Place, Shares, StreamBudgets

WIDE = Shares(1 << 30, 1 << 30, 1 << 20)


def stream_budgets(sends: Shares = WIDE, live: Shares = WIDE, pages: int = 1000, share: int = 1000) -> StreamBudgets:
    """The budgets of one node."""
    return StreamBudgets(
        ByteBudget(sends), ByteBudget(live), FairPlaces(pages, (pages, pages, share)), ByteBudget(WIDE)
    )


def device_share(most: int = 1 << 20) -> DeviceShare:
    """The share of a device that is alone on its node."""
    return DeviceShare(ByteBudget(Shares(1 << 30, 1 << 30, most)), 1, b"device")


def free_place() -> Place:
    """A place for large frames that nobody else wants."""
    return Place(FairPlaces(1, (1,)), (1,))
