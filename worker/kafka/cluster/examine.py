"""Why brokers that listen refuse this client: found by asking them, one step at a time.

kafka-python drops what a broker says right before it closes the connection, so a wrong password,
an unknown authority and an absent broker look alike: "unable to bootstrap". Here the same steps
(TCP, TLS, SASL, a first request) are taken one after another over a blocking socket, with the
client's own encoders and SASL mechanisms, and the step that fails is the cause.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

import kafka.errors
from kafka.cluster import collect_hosts
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from worker.errors import Refused
from worker.kafka.cluster import probe
from worker.kafka.cluster.talk import (
    Away,
    Closed,
    Talk,
    answers_plainly,
    answers_tls,
    connected,
    reason_of,
)

if TYPE_CHECKING:
    import socket

    from worker.kafka.cluster.security import Security

ATTEMPTS = 3
"""A connection that just closes may be a broker that stops: only if that happens so often, a moment
apart, is it the broker's answer."""
PAUSE = 0.5

_HOST_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_OUT_OF_DATE = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED


class Found(NamedTuple):
    """Which brokers could not be asked: a line for each, with its address and the cause."""

    away: list[str]
    """Of the bootstrap brokers: away, or still starting."""
    advertised: list[str]
    """Of the addresses at which the brokers say that they are."""


def examine(*, servers: list[str], client_id: str, security: Security) -> Found:
    """Asks the bootstrap brokers, and the brokers that they name, whether they serve this client.

    Args:
        servers: `host:port` of the bootstrap brokers.
        client_id: This replica's name in the brokers' logs.
        security: How to talk to them.

    Raises:
        Refused: A broker refuses this client for good, or a file cannot be used.
    """
    security.check()
    causes: list[Refused] = []
    found, named = Found([], []), set()
    first = [(host, port) for host, port, _ in collect_hosts(servers, randomize=False)]
    for host, port in first:
        try:
            named |= _Broker(host, port, client_id, security).others()
        except Away as error:
            found.away.append(f"{probe.named(host, port)}: {error}")
        except Refused as error:
            causes.append(error)
    if causes and not named:
        raise causes[0]
    others = sorted(named.difference(first))
    deaf = probe.deaf(others)
    for host, port in others:
        try:
            if (host, port) in deaf:
                raise Away(deaf[host, port])
            _Broker(host, port, client_id, security).others()
        except Away as error:
            found.advertised.append(f"{probe.named(host, port)}: {error}")
    return found


class _Broker:
    """One broker's address, and what can be found out about the broker."""

    def __init__(self, host: str, port: int, client_id: str, security: Security) -> None:
        self._address = (host, port)
        self._at = probe.named(host, port)
        self._client_id = client_id
        self._security = security

    def others(self) -> set[tuple[str, int]]:
        """The addresses of the cluster's brokers, as this broker names them.

        Raises:
            Refused: The broker refuses this client.
            Away: The broker cannot be asked.
        """
        for attempt in range(ATTEMPTS):
            time.sleep(PAUSE if attempt else 0)
            try:
                return self._visit()
            except Closed as error:
                cause = error
        if str(cause):
            raise Refused(str(cause)) from cause
        raise Away("it closes the connection")

    def _visit(self) -> set[tuple[str, int]]:
        request = MetadataRequest(topics=[], allow_auto_topic_creation=False)
        try:
            with self._linked() as link:
                talk = Talk(link, self._client_id)
                versions = self._versions(talk)
                if self._security.uses_sasl:
                    self._authenticate(talk, versions)
                if not versions.api_versions.get(MetadataRequest.API_KEY):
                    raise Refused(
                        f"{self._at} is no broker for clients (it does not offer Metadata, as a "
                        "controller): check kafka.bootstrap_servers"
                    )
                try:
                    answer = talk.ask(request, versions)
                except Closed:
                    self._wants_sasl()
                    raise
        except ssl.SSLError as error:  # in TLS 1.3 the broker refuses a client only now
            self._turned_away(error)
            raise Closed from error
        return {(broker.host, broker.port) for broker in answer.brokers}

    def _linked(self) -> socket.socket:
        sock = connected(self._address)
        return self._secured(sock) if self._security.uses_tls else sock

    def _secured(self, sock: socket.socket) -> ssl.SSLSocket:
        try:
            return self._security.context().wrap_socket(sock, server_hostname=self._address[0])
        except ssl.SSLCertVerificationError as error:
            raise Refused(self._distrusted(error)) from error
        except (ssl.SSLError, ConnectionError) as error:
            self._turned_away(error)
            if answers_plainly(self._address, self._client_id):
                protocol = self._security.protocol.replace("SSL", "PLAINTEXT")
                raise Refused(
                    f"{self._at} does not use TLS: use the broker's TLS port, or set "
                    f"kafka.security_protocol to {protocol}"
                ) from error
            raise Away(f"the TLS handshake breaks off: {reason_of(error)}") from error
        except OSError as error:
            raise Away(error.strerror or str(error)) from error

    def _versions(self, talk: Talk) -> BrokerVersionData:
        try:
            answer = talk.ask(ApiVersionsRequest(version=0))
        except Closed as error:
            if self._security.uses_tls:
                raise Closed(
                    f"{self._at} closes the connection after the TLS handshake: it may ask for "
                    "another client certificate; its log has the reason"
                ) from error
            if answers_tls(self._address):
                protocols = "SASL_SSL" if self._security.uses_sasl else "SSL or SASL_SSL"
                raise Refused(
                    f"{self._at} uses TLS: set kafka.security_protocol to {protocols}"
                ) from error
            raise
        versions = {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}
        return BrokerVersionData(api_versions=versions)

    def _authenticate(self, talk: Talk, versions: BrokerVersionData) -> None:
        mechanism = self._security.mechanism
        offer = talk.ask(SaslHandshakeRequest(mechanism=mechanism, min_version=1), versions)
        error = kafka.errors.for_code(offer.error_code)
        if error is kafka.errors.IllegalSaslStateError:
            protocol = self._security.protocol.removeprefix("SASL_")
            raise Refused(
                f"{self._at} does not use SASL: use the broker's SASL port, or set "
                f"kafka.security_protocol to {protocol}"
            )
        if mechanism not in offer.mechanisms:
            raise Refused(
                f"{self._at} does not offer kafka.sasl_mechanism {mechanism}, it offers "
                f"{', '.join(offer.mechanisms) or 'none'}"
            )
        if error is not kafka.errors.NoError:
            raise Closed
        exchange = get_sasl_mechanism(mechanism)(
            **self._security.sasl_options(), security_protocol=self._security.protocol
        )
        try:
            while not exchange.is_done():
                request = SaslAuthenticateRequest(exchange.auth_bytes())
                answer = talk.ask(request, versions)
                if answer.error_code:
                    raise Refused(self._unauthenticated(answer.error_message))
                exchange.receive(answer.auth_bytes)
        except Closed as error:
            raise Closed(
                f"{self._at} closes the connection during authentication: check user, password, "
                "mechanism and protocol; the broker's log has the reason"
            ) from error
        except (ValueError, KeyError) as error:  # of a SCRAM exchange
            raise Refused(
                f"{self._at} does not prove that it knows the password of {self._security.who}: "
                f"{error}"
            ) from error

    def _unauthenticated(self, message: str | None) -> str:
        security = self._security
        knobs = "kafka.sasl_username and kafka.sasl_password"
        if security.token_file is not None:
            knobs = f"the token in kafka.sasl_token_file {security.token_file}"
        cause = " ".join((message or "no reason is given").split())
        for secret in (security.password, _token(security)):
            cause = cause.replace(secret, "***") if secret else cause
        return f"{self._at} refuses {security.who} by {security.mechanism}: {cause}: check {knobs}"

    def _distrusted(self, error: ssl.SSLCertVerificationError) -> str:
        cause = error.verify_message.rstrip(".")
        if error.verify_code in _HOST_MISMATCH:
            return (
                f"the certificate of {self._at} is another host's ({cause}): reach the broker by a "
                "name that its certificate has, or give it a certificate with this one"
            )
        if error.verify_code in _OUT_OF_DATE:
            return f"the certificate of {self._at} is not valid now: {cause}"
        where = self._security.ca_file or "the system's authorities, since it is not set"
        return (
            f"the certificate of {self._at} is not trusted ({cause}): kafka.ssl_cafile ({where}) "
            "must hold the authority that signed it"
        )

    def _turned_away(self, error: OSError) -> None:
        """Raises `Refused` with the cause if the broker sent a TLS alert."""
        if "ALERT" not in (getattr(error, "reason", None) or ""):
            return
        cause = reason_of(error)
        if "certificate" not in cause and "unknown ca" not in cause:
            raise Refused(f"{self._at} ends the TLS handshake: {cause}") from error
        if self._security.cert_file is None:
            raise Refused(
                f"{self._at} asks for a client certificate ({cause}): set kafka.ssl_certfile and "
                "kafka.ssl_keyfile"
            ) from error
        raise Refused(
            f"{self._at} refuses the client certificate kafka.ssl_certfile "
            f"{self._security.cert_file} ({cause}): is it in date, and signed by an authority that "
            "the broker trusts?"
        ) from error

    def _wants_sasl(self) -> None:
        """Raises `Refused` if the broker requires SASL and the settings have none."""
        if self._security.uses_sasl:
            return
        with self._linked() as link, contextlib.suppress(Closed):
            talk = Talk(link, self._client_id)
            versions = self._versions(talk)
            offer = talk.ask(SaslHandshakeRequest(mechanism="", min_version=1), versions)
            if offer.mechanisms:
                raise Refused(
                    f"{self._at} asks for SASL ({', '.join(offer.mechanisms)}): set "
                    f"kafka.security_protocol to SASL_{self._security.protocol} and "
                    "kafka.sasl_mechanism"
                )


def _token(security: Security) -> str | None:
    provider = security.sasl_options().get("sasl_oauth_token_provider")
    return None if provider is None else provider.token()
