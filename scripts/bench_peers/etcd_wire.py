"""The messages of etcd's gRPC API that the bench needs, with etcd's field numbers."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_INT64 = descriptor_pb2.FieldDescriptorProto.TYPE_INT64
_UINT64 = descriptor_pb2.FieldDescriptorProto.TYPE_UINT64
_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE

# message -> field -> (number, type or message, whether it is repeated)
_MESSAGES: dict[str, dict[str, tuple[int, int | str, bool]]] = {
    "Header": {"member_id": (2, _UINT64, False), "revision": (3, _INT64, False)},
    "KeyValue": {"key": (1, _BYTES, False), "value": (5, _BYTES, False)},
    "PutRequest": {"key": (1, _BYTES, False), "value": (2, _BYTES, False)},
    "PutResponse": {"header": (1, "Header", False)},
    "RangeRequest": {"key": (1, _BYTES, False), "range_end": (2, _BYTES, False), "limit": (3, _INT64, False)},
    "RangeResponse": {"header": (1, "Header", False), "kvs": (2, "KeyValue", True)},
    "DeleteRequest": {"key": (1, _BYTES, False), "range_end": (2, _BYTES, False)},
    "DeleteResponse": {"header": (1, "Header", False)},
    "Create": {"key": (1, _BYTES, False), "range_end": (2, _BYTES, False), "start_revision": (3, _INT64, False)},
    "WatchRequest": {"create_request": (1, "Create", False)},
    "Event": {"kv": (2, "KeyValue", False)},
    "WatchResponse": {"header": (1, "Header", False), "events": (11, "Event", True)},
    "StatusRequest": {},
    "StatusResponse": {"header": (1, "Header", False), "leader": (4, _UINT64, False)},
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="bench_etcd.proto", package="bench_etcd", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind, is_repeated) in fields.items():
            field = message.field.add(name=field_name, number=number)
            field.label = field.LABEL_REPEATED if is_repeated else field.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = _MESSAGE, f".bench_etcd.{kind}"
            else:
                field.type = kind  # type: ignore[assignment]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"bench_etcd.{name}")) for name in _MESSAGES
    }


MESSAGES = _classes()
"""The classes of the messages, by name."""
