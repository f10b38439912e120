"""Talks to one broker over a blocking socket, with the client's own encoders."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

import kafka.errors
from kafka.protocol.metadata import ApiVersionsRequest
from kafka.protocol.parser import KafkaProtocol

if TYPE_CHECKING:
    from kafka.protocol.broker_version_data import BrokerVersionData

PATIENCE = 5.0
"""Seconds for one answer. A broker that takes longer counts as away, which is no reason to end."""


class Closed(Exception):
    """The broker closed the connection without an answer, or sent something that is none."""


class Away(Exception):
    """No connection, or no answer in time."""


class Talk:
    """Questions and answers over a blocking socket."""

    def __init__(self, link: socket.socket, client_id: str) -> None:
        self._link = link
        self._protocol = KafkaProtocol(client_id=client_id)

    def ask(self, request: Any, versions: BrokerVersionData | None = None) -> Any:
        """The answer.

        Raises:
            Closed: The connection ended first, or the broker sent something that is no answer.
            Away: Nothing came in time.
            ssl.SSLError: The broker sent an alert.
        """
        try:
            if versions is not None:
                request.API_VERSION = versions.api_version(request)
            self._protocol.send_request(request)
            self._link.sendall(self._protocol.send_bytes())
            while True:
                data = self._link.recv(65_536)
                if not data:
                    raise Closed
                for _, answer in self._protocol.receive_bytes(data):
                    return answer
        except TimeoutError as error:
            raise Away("it does not answer") from error
        except (ssl.SSLEOFError, ConnectionError, kafka.errors.KafkaError) as error:
            raise Closed from error
        except ssl.SSLError:
            raise
        except OSError as error:
            raise Away(error.strerror or str(error)) from error


def connected(address: tuple[str, int]) -> socket.socket:
    """A TCP connection to the address.

    Raises:
        Away: There is no connection in time.
    """
    try:
        return socket.create_connection(address, PATIENCE)
    except (OSError, UnicodeError) as error:  # not a possible host name
        raise Away(getattr(error, "strerror", None) or str(error)) from error


def answers_plainly(address: tuple[str, int], client_id: str) -> bool:
    """Whether a broker at the address answers without TLS."""
    with contextlib.suppress(Closed, Away), connected(address) as sock:
        Talk(sock, client_id).ask(ApiVersionsRequest(version=0))
        return True
    return False


def answers_tls(address: tuple[str, int]) -> bool:
    """Whether a server at the address uses TLS."""
    # Nothing is sent over this connection: whom it reaches does not matter.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with context.wrap_socket(connected(address)):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except (OSError, Away):
        return False


def reason_of(error: OSError) -> str:
    """OpenSSL's reason in words: SSLV3_ALERT_BAD_CERTIFICATE is "bad certificate"."""
    reason: str | None = getattr(error, "reason", None)
    if reason is None:
        return error.strerror or type(error).__name__
    return reason.partition("ALERT_")[2].replace("_", " ").lower() or reason
