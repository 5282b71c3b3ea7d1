"""Bounds that are equal on every node: a change of one changes the replicated state, so it needs a new level."""

from __future__ import annotations

# Results kept per device for retries: a device may have this many unanswered sends.
MAX_SENDS_IN_FLIGHT = 1024
# The highest value of the setting max_message_bytes; no body is longer on any node.
MAX_BODY_BYTES = 1 << 20
MAX_NAME_CHARS = 64
MAX_TITLE_CHARS = 100
MAX_TOPIC_CHARS = 250
MAX_LABEL_CHARS = 64
MAX_REASON_CHARS = 200
MAX_ADDRESS_CHARS = 255
MAX_HASH_BYTES = 255
# In one command. As many as fit into a request, however long their names are.
MAX_IMPORTED_ACCOUNTS = 128
MAX_DEVICES_PER_ACCOUNT = 32
MAX_MEMBERS_AT_CREATION = 256
# Channels that an account leaves when it is deleted. It stays listed in more, which only max_joined_channels allows.
MAX_CHANNELS_LEFT = 1000
# Keys of nodes that are barred because the node has a newer one. Certificates end before so many are replaced.
MAX_REPLACED_KEYS = 1000
# Certificates and keys of nodes that are revoked.
MAX_REVOKED_CERTIFICATES = 1000
# How often an account may have left a channel until what it read first is no longer shown to it.
MAX_PAST_MEMBERSHIPS = 16
# Rows of expired sessions removed with each new session.
EXPIRED_SESSIONS_PER_STEP = 64
TOKEN_DIGEST_BYTES = 32
CODE_DIGEST_BYTES = 32
# Unused invitations, and unused codes of administrators.
MAX_CODES = 1000
DEVICE_ID_BYTES = 16
KEY_DIGEST_BYTES = 32
# Join tokens that are not expired, and the longest time one is valid.
MAX_JOIN_TOKENS = 64
MAX_JOIN_TOKEN_MS = 7 * 86_400_000
REQUEST_ID_BYTES = 16
CLAIM_NONCE_BYTES = 16
# Largest number that SQLite stores. No id is larger.
MAX_ID = (1 << 63) - 1
# A message id has its Raft group above this many bits of counter. There is one group so far.
GROUP = 0
GROUP_SHIFT = 48
FIRST_MESSAGE_ID = (GROUP << GROUP_SHIFT) + 1
