"""A broker's answers, changed on the wire: for brokers that cannot run here.

Frames are answers as they are sent: 4 bytes of size, a header with the correlation id, the body.
"""

import struct
from collections.abc import Collection, Mapping
from typing import Any

from kafka.protocol.metadata import ApiVersionsResponse, MetadataResponse
from kafka.protocol.producer import ProduceResponse

_NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20


def clamped(frame: bytes, version: int, offers: Mapping[int, int | None]) -> bytes:
    """An answer to ApiVersions that offers no more than `offers`.

    Args:
        frame: The answer.
        version: Of the request.
        offers: The highest version by api key; None: the api is missing.
    """
    (error,) = struct.unpack_from(">h", frame, 8)
    # A version that the broker does not know is answered in version 0.
    answer, correlation = _decoded(ApiVersionsResponse, frame, 0 if error == 35 else version)
    kept = []
    for key in answer.api_keys:
        if key.api_key in offers:
            most = offers[key.api_key]
            if most is None:
                continue
            key.min_version = min(key.min_version, most)
            key.max_version = min(key.max_version, most)
        kept.append(key)
    answer.api_keys = kept
    return _encoded(answer, correlation)


def readdressed(
    frame: bytes, version: int, addresses: Mapping[int | None, tuple[str, int]]
) -> bytes:
    """An answer to Metadata in which brokers are advertised elsewhere.

    Args:
        frame: The answer.
        version: Of the request.
        addresses: Host and port by broker id; that of None is for every broker.
    """
    answer, correlation = _decoded(MetadataResponse, frame, version)
    for broker in answer.brokers:
        elsewhere = addresses.get(broker.node_id, addresses.get(None))
        if elsewhere is not None:
            broker.host, broker.port = elsewhere
    return _encoded(answer, correlation)


def unwritten(frame: bytes, version: int, partitions: Collection[int]) -> bytes:
    """An answer to Produce by which these partitions have too few replicas in sync.

    Args:
        frame: The answer.
        version: Of the request.
        partitions: Their numbers, of every topic.
    """
    answer, correlation = _decoded(ProduceResponse, frame, version)
    for topic in answer.responses:
        for partition in topic.partition_responses:
            if partition.index in partitions:
                partition.error_code = _NOT_ENOUGH_REPLICAS_AFTER_APPEND
                partition.base_offset = -1
    return _encoded(answer, correlation)


def _decoded(kind: Any, frame: bytes, version: int) -> tuple[Any, int]:
    answer = kind.decode(frame[4:], version=version, header=True)
    return answer, struct.unpack_from(">i", frame, 4)[0]


def _encoded(answer: Any, correlation: int) -> bytes:
    answer.with_header(correlation_id=correlation)
    encoded: bytes = answer.encode(header=True, framed=True)
    return encoded
