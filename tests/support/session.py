"""The session of a caller, for tests of what the api does once a call is admitted."""

from __future__ import annotations

from parleyd.machine.features.sessions import SessionRecord

SESSION = SessionRecord(
    session_id=1,
    account_id=1,
    account_name="ann",
    account_active=True,
    role=0,
    device_id=1,
    device_external_id=b"d" * 16,
    expires_at_ms=1 << 60,
    closed=False,
)
