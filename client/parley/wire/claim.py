"""Which copy of a device's files is connected. The cluster lets one copy send; see docs/PROTOCOL.md."""

from dataclasses import dataclass

from parley_proto.v1 import model_pb2 as pb

NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Claim:
    """Made anew, with the next epoch, each time a profile is opened. Epoch 0: the profile was never opened."""

    epoch: int = 0
    nonce: bytes = b""

    def to_wire(self) -> pb.DeviceClaim:
        """Return the claim as a protobuf message."""
        return pb.DeviceClaim(epoch=self.epoch, nonce=self.nonce)
