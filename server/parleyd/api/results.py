"""What each result code means to a client: one table of status and text.

A text says what happened, what became of the data, and what to do next. Results carry codes only, so a text may be
reworded in any release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.limits import MAX_JOIN_TOKENS, MAX_REVOKED_CERTIFICATES

Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Explanation:
    """The status that a call with this result ends with, and the text for people."""

    status: grpc.StatusCode
    text: str


EXPLANATIONS: Final[dict[int, Explanation]] = {
    pb.RESULT_CODE_UNSPECIFIED: Explanation(
        Code.INTERNAL,
        "The cluster gave no result. The request may or may not be carried out. Repeat it, and report this error.",
    ),
    pb.RESULT_CODE_OK: Explanation(Code.OK, "Done."),
    pb.RESULT_CODE_UNKNOWN_COMMAND: Explanation(
        Code.FAILED_PRECONDITION,
        "The cluster's level does not include this command. Nothing was changed. Update all nodes, then try again.",
    ),
    pb.RESULT_CODE_FAILED: Explanation(
        Code.INTERNAL,
        "The cluster failed to carry out the request. Nothing was changed. The nodes' logs name the cause: please "
        "report it.",
    ),
    pb.RESULT_CODE_SIGNED_OUT: Explanation(
        Code.UNAUTHENTICATED,
        "This session is closed, expired or unknown. Nothing was changed. Log in again.",
    ),
    pb.RESULT_CODE_CREDENTIALS_CHANGED: Explanation(
        Code.UNAUTHENTICATED,
        "The account or its password changed while the password was checked. Nothing was changed. Try again.",
    ),
    pb.RESULT_CODE_NOT_ALLOWED: Explanation(
        Code.PERMISSION_DENIED,
        "Only an administrator of the cluster may do this. Nothing was changed. An administrator can make this account "
        "one: parley cluster grant NAME.",
    ),
    pb.RESULT_CODE_INVALID_NAME: Explanation(
        Code.INVALID_ARGUMENT,
        "The name breaks the rules for names. Nothing was changed. Use 1 to 64 letters, digits, '.', '_' and '-', and "
        "begin with a letter or digit.",
    ),
    pb.RESULT_CODE_INVALID_LENGTH: Explanation(
        Code.INVALID_ARGUMENT,
        "An identifier, hash or label in the request has a wrong length. Nothing was changed. Update the client.",
    ),
    pb.RESULT_CODE_INVALID_EXPIRY: Explanation(
        Code.INVALID_ARGUMENT,
        "The session would expire before it begins. Nothing was changed. Check the clocks of the nodes and the setting "
        "session_ttl_s.",
    ),
    pb.RESULT_CODE_INVALID_DISPLAY_NAME: Explanation(
        Code.INVALID_ARGUMENT,
        "The display name breaks the rules for display names. Nothing was changed. Use at most 64 characters, none of "
        "them invisible.",
    ),
    pb.RESULT_CODE_INVALID_TITLE: Explanation(
        Code.INVALID_ARGUMENT,
        "The title breaks the rules for titles. Nothing was changed. Use 1 to 100 printable characters.",
    ),
    pb.RESULT_CODE_INVALID_BODY: Explanation(
        Code.INVALID_ARGUMENT,
        "The message shows nothing, or is longer than the cluster's setting max_message_bytes allows. It was not "
        "stored. Shorten or split it, and send it as a new message.",
    ),
    pb.RESULT_CODE_INVALID_TARGET: Explanation(
        Code.INVALID_ARGUMENT,
        "The message names nobody to send it to. It was not stored. Name an account or a conversation.",
    ),
    pb.RESULT_CODE_INVALID_SETTING: Explanation(
        Code.INVALID_ARGUMENT,
        "The cluster has no such setting, or the value is outside its bounds. Nothing was changed. List the settings: "
        "parley cluster settings.",
    ),
    pb.RESULT_CODE_INVALID_ADDRESS: Explanation(
        Code.INVALID_ARGUMENT,
        "An address is longer than 255 characters. Nothing was changed. Give the node a shorter address.",
    ),
    pb.RESULT_CODE_INVALID_NUMBER: Explanation(
        Code.INVALID_ARGUMENT,
        "The message has the number 0. It was not stored. Numbers begin at 1: update the client.",
    ),
    pb.RESULT_CODE_NAME_TAKEN: Explanation(
        Code.ALREADY_EXISTS,
        "An account of that name exists already. Nothing was changed. Choose another name, or log in.",
    ),
    pb.RESULT_CODE_REQUEST_ID_REUSED: Explanation(
        Code.ALREADY_EXISTS,
        "An earlier request used this request id for something else. Nothing was changed. Repeat the request with a "
        "new id.",
    ),
    pb.RESULT_CODE_NO_SUCH_ACCOUNT: Explanation(
        Code.NOT_FOUND,
        "There is no such account, or it was deleted. Nothing was stored or changed. Check the name.",
    ),
    pb.RESULT_CODE_NO_SUCH_CONVERSATION: Explanation(
        Code.NOT_FOUND,
        "There is no such conversation among yours. Nothing was stored or changed. List your conversations.",
    ),
    pb.RESULT_CODE_NO_SUCH_MEMBER: Explanation(
        Code.NOT_FOUND,
        "The cluster has no such member. Nothing was changed. List the members: parley cluster status.",
    ),
    pb.RESULT_CODE_DEVICE_OF_ANOTHER: Explanation(
        Code.ALREADY_EXISTS,
        "The device belongs to another account. Nothing was changed. Log in with a new device id.",
    ),
    pb.RESULT_CODE_TOO_MANY_DEVICES: Explanation(
        Code.FAILED_PRECONDITION,
        "The account has 32 devices logged in, which is the most. Nothing was changed. Log out on one of them first.",
    ),
    pb.RESULT_CODE_TOO_MANY_MEMBERS: Explanation(
        Code.INVALID_ARGUMENT,
        "One request names at most 255 accounts. Nothing was changed. Name fewer at once.",
    ),
    pb.RESULT_CODE_LAST_ADMINISTRATOR: Explanation(
        Code.FAILED_PRECONDITION,
        "The account is the only administrator of the cluster. Nothing was changed. Make another account an "
        "administrator first: parley cluster grant NAME.",
    ),
    pb.RESULT_CODE_GAP: Explanation(
        Code.FAILED_PRECONDITION,
        "An earlier message of this device is missing. This one was not stored. The client sends again from the first "
        "missing message on.",
    ),
    pb.RESULT_CODE_FORGOTTEN: Explanation(
        Code.ALREADY_EXISTS,
        "The message was stored or refused long ago, and the cluster no longer keeps which of the two. Nothing was "
        "stored again. Look into the conversation before you send it again.",
    ),
    pb.RESULT_CODE_DEVICE_SUPERSEDED: Explanation(
        Code.ABORTED,
        "Another copy of this device's files sends for the device now. Nothing of this request was stored. To send "
        "from this copy, log in again on it.",
    ),
    pb.RESULT_CODE_TIME_DISPUTED: Explanation(
        Code.FAILED_PRECONDITION,
        "Your clock and the time of a majority of the nodes differ by more than a minute, or the leader does not know "
        "the clocks of a majority yet. Nothing was changed. Check the clocks, then try again.",
    ),
    pb.RESULT_CODE_DEVICE_FORGOTTEN: Explanation(
        Code.FAILED_PRECONDITION,
        "The cluster has forgotten this device, and what became of its unanswered messages. No session was opened. Log "
        "in with a new device id.",
    ),
    pb.RESULT_CODE_MISMATCH: Explanation(
        Code.ALREADY_EXISTS,
        "This device used the number for another message before. That one stands, and this one was not stored. Send it "
        "as a new message.",
    ),
    pb.RESULT_CODE_INVALID_JOIN_TOKEN: Explanation(
        Code.FAILED_PRECONDITION,
        "The join token is unknown, expired, or used by another node. Nothing was changed. Get a new one: parley "
        "cluster invite-node.",
    ),
    pb.RESULT_CODE_TOO_MANY_JOIN_TOKENS: Explanation(
        Code.FAILED_PRECONDITION,
        f"The cluster has {MAX_JOIN_TOKENS} join tokens that are not expired, which is the most. Nothing was changed. "
        "Wait until one expires, or use one of them.",
    ),
    pb.RESULT_CODE_WOULD_STOP_CLUSTER: Explanation(
        Code.FAILED_PRECONDITION,
        "No majority of the voters would have a certificate that is not revoked. The cluster would stop. Nothing was "
        "changed. Give a node whose certificate is revoked a new key first (parleyd cert renew NAME.pem --new-key).",
    ),
    pb.RESULT_CODE_TOO_MANY_REVOKED: Explanation(
        Code.FAILED_PRECONDITION,
        f"{MAX_REVOKED_CERTIFICATES} certificates are revoked, which is the most. Nothing was changed. Take back those "
        "that have expired: parley cluster unrevoke-cert SHA256.",
    ),
    pb.RESULT_CODE_QUOTA_REACHED: Explanation(
        Code.FAILED_PRECONDITION,
        "Your account has stored as many bytes of messages and channels as it may. This one was not stored. All "
        "earlier ones are kept, and you still receive messages. Ask an administrator of the cluster for more room "
        "(parley cluster quota NAME --set BYTES), then try again.",
    ),
    pb.RESULT_CODE_TOO_MANY_CHANNELS: Explanation(
        Code.FAILED_PRECONDITION,
        "Your account has created as many channels as it may (max_account_channels). This one was not created. Use an "
        "existing one, or ask an administrator for more.",
    ),
    pb.RESULT_CODE_NOT_A_CHANNEL: Explanation(
        Code.FAILED_PRECONDITION,
        "This is no channel. Only channels can be changed, joined and left. Nothing was changed. Name a channel.",
    ),
    pb.RESULT_CODE_NOT_A_MODERATOR: Explanation(
        Code.PERMISSION_DENIED,
        "Your role in the channel does not allow this. Nothing was changed. Owners and moderators change a channel and "
        "its members; only owners give roles and remove owners and moderators. Ask one of them.",
    ),
    pb.RESULT_CODE_CHANNEL_ARCHIVED: Explanation(
        Code.FAILED_PRECONDITION,
        "The channel is archived: it takes no messages and no members. Nothing was changed. Its owners and moderators "
        "can reopen it.",
    ),
    pb.RESULT_CODE_ADMINISTRATORS_WRITE: Explanation(
        Code.PERMISSION_DENIED,
        "Only administrators of the cluster write to everyone (everyone_writers). The message was not stored. Write to "
        "accounts or to a channel, or ask an administrator.",
    ),
    pb.RESULT_CODE_LAST_OWNER: Explanation(
        Code.FAILED_PRECONDITION,
        "The channel would have members and no owner. Nothing was changed. Make another member an owner first.",
    ),
    pb.RESULT_CODE_CHANNEL_FULL: Explanation(
        Code.FAILED_PRECONDITION,
        "The channel has as many members as a channel may have (max_channel_members). Nobody was added. Ask an "
        "administrator of the cluster for more.",
    ),
    pb.RESULT_CODE_TOO_MANY_JOINED: Explanation(
        Code.FAILED_PRECONDITION,
        "An account would be in more channels than it may (max_joined_channels). Nobody was added. It has to leave "
        "another channel first.",
    ),
    pb.RESULT_CODE_INVALID_TOPIC: Explanation(
        Code.INVALID_ARGUMENT,
        "The topic breaks the rules for topics. Nothing was changed. Use at most 250 printable characters.",
    ),
    pb.RESULT_CODE_NOT_A_MEMBER: Explanation(
        Code.NOT_FOUND,
        "The account is no member of the channel. Nothing was changed. Add it first.",
    ),
    pb.RESULT_CODE_LEFT_TOO_OFTEN: Explanation(
        Code.FAILED_PRECONDITION,
        "An account has left this channel 16 times, and none of its devices has received what was sent to it before. "
        "Nobody was added. It can be added again after one of its devices was connected.",
    ),
    pb.RESULT_CODE_INVALID_ROLE: Explanation(
        Code.INVALID_ARGUMENT,
        "There is no such role in a channel. Nothing was changed. Give owner, moderator or member.",
    ),
    pb.RESULT_CODE_LEVEL_NOT_SUPPORTED: Explanation(
        Code.FAILED_PRECONDITION,
        "A member of the cluster does not support the level. Nothing was changed. Update all nodes first.",
    ),
    pb.RESULT_CODE_LEVEL_HELD: Explanation(
        Code.FAILED_PRECONDITION,
        "The setting level_limit holds the level back. Nothing was changed. Raise the setting first.",
    ),
    pb.RESULT_CODE_LEVEL_NOT_NEXT: Explanation(
        Code.FAILED_PRECONDITION,
        "Levels rise one by one, and this is not the next one. Nothing was changed. Raise the level step by step.",
    ),
    pb.RESULT_CODE_INVALID_CODE: Explanation(
        Code.FAILED_PRECONDITION,
        "The code is wrong, was used already, or is over. Nothing was changed. Check it, or ask for a new one.",
    ),
    pb.RESULT_CODE_NOT_INVITED: Explanation(
        Code.FAILED_PRECONDITION,
        "This cluster creates accounts by invitation. Nothing was changed. Ask an administrator for an invitation, and "
        "register with its code (on the command line: parley register NAME --code CODE).",
    ),
    pb.RESULT_CODE_REGISTRATION_CLOSED: Explanation(
        Code.FAILED_PRECONDITION,
        "This cluster creates no accounts now. Nothing was changed. Ask an administrator of the cluster.",
    ),
    pb.RESULT_CODE_TOO_MANY_CODES: Explanation(
        Code.RESOURCE_EXHAUSTED,
        "Too many codes wait to be used. Nothing was changed. Wait until some are used or over.",
    ),
    pb.RESULT_CODE_NAME_RESERVED: Explanation(
        Code.ALREADY_EXISTS,
        "The name is reserved: it means everybody or the cluster, is that of a node, or was another account's lately. "
        "Nothing was changed. Choose another name.",
    ),
    pb.RESULT_CODE_NAME_LOOKS_ALIKE: Explanation(
        Code.ALREADY_EXISTS,
        "The name looks like that of another account. Nothing was changed. Choose another name.",
    ),
    pb.RESULT_CODE_NAME_CHANGED_OWNER: Explanation(
        Code.NOT_FOUND,
        "The account that had this name was deleted after the message was written. It was not stored, because the name "
        "may mean somebody else now. Check the name, and send it again if it is still meant.",
    ),
    pb.RESULT_CODE_NO_SUCH_DEVICE: Explanation(
        Code.NOT_FOUND, "The account has no such device. Nothing was changed. List the devices: parley devices list."
    ),
    pb.RESULT_CODE_ACCOUNT_SUSPENDED: Explanation(
        Code.PERMISSION_DENIED,
        "An administrator of the cluster has suspended this account. You are not signed in. The cluster keeps the "
        "account and what others send to it. What waits on your devices stays there. Ask an administrator to release "
        "the account (parley cluster release NAME), then log in again.",
    ),
    pb.RESULT_CODE_OWN_ACCOUNT: Explanation(
        Code.FAILED_PRECONDITION,
        "You cannot suspend your own account. Nothing was changed. Ask another administrator.",
    ),
    pb.RESULT_CODE_INVALID_REASON: Explanation(
        Code.INVALID_ARGUMENT,
        "The reason breaks its rules. Nothing was changed. Use at most 200 characters, none of them invisible.",
    ),
}
UNKNOWN_CODE: Final = Explanation(
    Code.INTERNAL,
    "The cluster gave a result that this node's release does not have. Update this node.",
)


def explain(code: int) -> Explanation:
    """The row of a code; a newer release may have left a code that this one does not have."""
    return EXPLANATIONS.get(code, UNKNOWN_CODE)


def code_name(code: int) -> str:
    """Return the name of a code for the log, or its number if this release does not have it."""
    known = code in pb.ResultCode.values()
    return pb.ResultCode.Name(code).removeprefix("RESULT_CODE_") if known else str(code)  # type: ignore[arg-type]
