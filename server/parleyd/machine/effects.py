"""Changes made by applied commands, for connected devices: the union of the features' effects."""

from __future__ import annotations

from parleyd.machine.features.accounts import AccountChanged, AccountDeleted
from parleyd.machine.features.channel_members import MembersJoined, MembersLeft
from parleyd.machine.features.channels import ChannelChanged
from parleyd.machine.features.conversations import ConversationCreated
from parleyd.machine.features.devices import DeviceClaimed
from parleyd.machine.features.levels import LevelRaised
from parleyd.machine.features.members import MembersChanged
from parleyd.machine.features.messages import MessageStored
from parleyd.machine.features.mutes import ConversationMuted
from parleyd.machine.features.put_away import ConversationPutAway
from parleyd.machine.features.receipts import ReceiptMoved
from parleyd.machine.features.removals import ConversationRemoved
from parleyd.machine.features.sessions import SessionsClosed
from parleyd.machine.features.settings import SettingChanged

Effect = (
    MessageStored
    | ReceiptMoved
    | ConversationCreated
    | ConversationMuted
    | ConversationPutAway
    | ConversationRemoved
    | MembersJoined
    | MembersLeft
    | ChannelChanged
    | AccountChanged
    | AccountDeleted
    | SessionsClosed
    | DeviceClaimed
    | MembersChanged
    | SettingChanged
    | LevelRaised
)
