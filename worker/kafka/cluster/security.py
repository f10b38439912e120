"""How this worker authenticates itself, and which brokers it trusts."""

from __future__ import annotations

import contextlib
import re
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kafka.net.sasl.oauth import AbstractTokenProvider

from worker.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOKEN_PATIENCE = 1.0
"""Longest wait for a token file that cannot serve, in seconds."""
TOKEN_LOOK = 0.05
"""Seconds between looks at it."""
TOKEN_SETTLED = 0.2
"""Seconds after its last change from which on a token file counts as written to its end."""

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""Characters of a bearer token: any other would end it early on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """TLS and SASL of every client. Files are read again for each new connection."""

    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    ca_file: Path | None = None
    """None: the system's authorities."""
    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: str | None = field(default=None, repr=False)

    @property
    def uses_tls(self) -> bool:
        return self.protocol.endswith("SSL")

    @property
    def uses_sasl(self) -> bool:
        return self.protocol.startswith("SASL_")

    @property
    def who(self) -> str:
        """The principal for whom an ACL has to be added."""
        if self.uses_sasl:
            return f"user {self.username}" if self.username else "the subject of the token"
        return "the subject of this client's certificate" if self.cert_file else "User:ANONYMOUS"

    def options(self) -> dict[str, Any]:
        """Options of every client.

        They name files rather than hold a context of ours: so the client reads a renewed
        certificate, or token, when it connects again.
        """
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if self.uses_tls:
            options |= {
                "ssl_cafile": _text(self.ca_file),
                "ssl_certfile": _text(self.cert_file),
                "ssl_keyfile": _text(self.key_file),
                # Never None: OpenSSL would ask the terminal for it.
                "ssl_password": self.key_password or "",
            }
        return options | self.sasl_options()

    def sasl_options(self) -> dict[str, Any]:
        """What the client's SASL mechanisms take."""
        if not self.uses_sasl:
            return {}
        if self.token_file is not None:
            return {
                "sasl_mechanism": self.mechanism,
                "sasl_oauth_token_provider": TokenFile(self.token_file),
            }
        return {
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
        }

    def context(self) -> ssl.SSLContext:
        """The same TLS context that the client makes of `options`.

        Raises:
            Refused: A file is no PEM, the key is not the certificate's, or its password is wrong.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.ca_file is None:
            context.load_default_certs()
        else:
            try:
                context.load_verify_locations(self.ca_file)
            except OSError as error:
                raise Refused(
                    f"kafka.ssl_cafile {self.ca_file} cannot be loaded as PEM certificates: "
                    + _reason(error)
                ) from error
        if self.cert_file is not None:
            try:
                context.load_cert_chain(
                    self.cert_file, self.key_file, password=self.key_password or ""
                )
            except OSError as error:
                raise Refused(self._bad_pair(error)) from error
        return context

    def check(self) -> None:
        """Loads the files.

        Raises:
            Refused: A file cannot be used.
        """
        if self.uses_tls:
            self.context()
        if self.token_file is not None:
            TokenFile(self.token_file).token()

    def _bad_pair(self, error: OSError) -> str:
        pair = f"kafka.ssl_certfile {self.cert_file} and kafka.ssl_keyfile {self.key_file}"
        if not isinstance(error, ssl.SSLError):
            return f"{pair} cannot be read: {error.strerror}"
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            return f"{pair} do not belong together: the key is another certificate's"
        broken = self._broken_certificate()
        if broken is not None:
            return f"kafka.ssl_certfile {self.cert_file} cannot be loaded as PEM: {broken}"
        if self.key_file is not None and b"ENCRYPTED" in self.key_file.read_bytes():
            state = "is wrong" if self.key_password else "is not set"
            return f"kafka.ssl_keyfile {self.key_file} is encrypted: kafka.ssl_key_password {state}"
        return f"{pair} cannot be loaded as PEM: {_reason(error)}"

    def _broken_certificate(self) -> str | None:
        # Loaded alone: for the pair, OpenSSL does not say which of the two is broken.
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.cert_file)
        except OSError as error:
            return _reason(error)
        return None


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]
    """An OAuth bearer token in a file that somebody else renews: read at each connection.

    Whoever renews it may write it in place: half a token can look like one, and the broker's answer
    to it ends the worker. So the file is read again while it has just changed or cannot serve.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__()
        self._path = path
        self._clock = clock
        self._sleep = sleep

    def token(self) -> str:
        """The current token. Waits for one for up to `TOKEN_PATIENCE` seconds.

        Raises:
            Refused: The file cannot be read, is empty or holds something else.
        """
        for _ in range(round(TOKEN_PATIENCE / TOKEN_LOOK)):
            with contextlib.suppress(Refused):
                token = self._read()
                if not self._has_just_changed():
                    return token
            self._sleep(TOKEN_LOOK)
        return self._read()

    def _has_just_changed(self) -> bool:
        try:
            changed = self._path.stat().st_mtime
        except OSError:
            return True
        return abs(self._clock() - changed) < TOKEN_SETTLED

    def _read(self) -> str:
        try:
            token = self._path.read_text(encoding="ascii", errors="replace").strip()
        except OSError as error:
            raise Refused(
                f"kafka.sasl_token_file {self._path} cannot be read: {error.strerror}"
            ) from error
        if not token:
            raise Refused(f"kafka.sasl_token_file {self._path} is empty")
        if not _TOKEN.fullmatch(token):
            raise Refused(f"kafka.sasl_token_file {self._path} holds more, or less, than one token")
        return token


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _reason(error: OSError) -> str:
    """What OpenSSL says, without the place in its source."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason.replace("_", " ").lower()
    return "what is in it is no PEM" if isinstance(error, ssl.SSLError) else str(error.strerror)
