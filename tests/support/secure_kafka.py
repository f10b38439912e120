"""Apache Kafka with TLS, SASL and ACLs on, and the certificates for it. Loopback only.

One broker, a listener for each way in; clients of `PLAINTEXT` are super users, for the harness.
"""

import base64
import datetime as dt
import json
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import DNSName, IPAddress
from cryptography.x509.oid import NameOID
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)

from tests.support.kafka_helpers import admin, wait_until
from worker.demo.broker import EmbeddedKafka, free_ports

PASSWORDS = {
    "PLAIN": ("plain-user", "plain-5ecret"),
    "SCRAM-SHA-256": ("scram-256", "5cram,256=sécret"),
    "SCRAM-SHA-512": ("scram-512", "5cram-512-secret"),
}
TOKEN_USER, CERTIFICATE_USER = "token-user", "CN=worker"
KEY_PASSWORD = "key-5ecret"
_OAUTH = "org.apache.kafka.common.security.oauthbearer"


class Certificates:
    """An authority, what it signed, and an authority that nobody knows."""

    def __init__(self, folder: Path):
        self.folder = folder
        ca, foreign = (self._make(name) for name in ("ca", "foreign"))
        self._make("server", ca, DNSName("localhost"), IPAddress(ip_address("127.0.0.1")))
        self._make("elsewhere", ca, DNSName("kafka.example.org"))
        _, key = self._make("worker", ca, DNSName("worker"))
        self._make("stranger", foreign, DNSName("stranger"))
        locked = serialization.BestAvailableEncryption(KEY_PASSWORD.encode())
        Path(self.key("locked")).write_bytes(_pem_of(key, locked))

    def pem(self, name):
        return str(self.folder / f"{name}.pem")

    def key(self, name):
        return str(self.folder / f"{name}.key")

    def keystore(self, name):
        """Key and certificate in one file, as Kafka reads PEM."""
        path = self.folder / f"{name}-store.pem"
        path.write_text(Path(self.key(name)).read_text() + Path(self.pem(name)).read_text())
        return str(path)

    def _make(self, name, issuer=None, *alternatives):
        """Certificate and key, written; signed by itself where there is no issuer."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer, signing_key = issuer or (None, key)
        now = dt.datetime.now(dt.UTC)
        extensions = {
            x509.BasicConstraints(ca=issuer is None, path_length=None): True,
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()): False,
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()): False,
        }
        if alternatives:
            extensions[x509.SubjectAlternativeName(alternatives)] = False
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer.subject if signer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=2))
        )
        for extension, critical in extensions.items():
            builder = builder.add_extension(extension, critical=critical)
        certificate = builder.sign(signing_key, hashes.SHA256())
        Path(self.pem(name)).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        Path(self.key(name)).write_bytes(_pem_of(key, serialization.NoEncryption()))
        return certificate, key


def _pem_of(key, encryption):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


@dataclass
class Ways:
    """The listeners, by what they ask of a client."""

    tls: str
    mutual_tls: str
    other_host: str
    """Its certificate is another host's."""
    sasl_tls: str
    sasl_plaintext: str
    """Offers SCRAM-SHA-512 alone."""


class SecureKafka:
    """The broker; `settings(way)` are a worker's settings that get in."""

    def __init__(self, folder: Path):
        self.certificates = Certificates(folder)
        self.token_file = folder / "token"
        ports = iter(free_ports(5))
        self.ways = Ways(*(f"127.0.0.1:{next(ports)}" for _ in range(5)))
        self._broker = EmbeddedKafka(properties=self._properties())

    @property
    def plaintext(self):
        """For the harness: a super user."""
        return self._broker.bootstrap_servers

    @property
    def log(self):
        return self._broker.log_path.read_text()

    def start(self):
        self._broker.start()
        with admin(self.plaintext) as client:
            client.alter_user_scram_credentials(
                [
                    UserScramCredentialUpsertion(user, mechanism, password)
                    for mechanism, (user, password) in PASSWORDS.items()
                    if mechanism != "PLAIN"
                ]
            )
        self.new_token()
        return self

    def stop(self):
        self._broker.stop()

    def new_token(self, path=None, *, lifetime=600):
        """A token as the broker's unsecured validator takes it, in a file, with white space."""
        now = time.time()
        claims = {"sub": TOKEN_USER, "iat": now - 60, "exp": now + lifetime}
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
            for part in ({"alg": "none"}, claims)
        ]
        path = path or self.token_file
        new = path.with_suffix(".new")
        new.write_text(f"\n {'.'.join(parts)}.\n")
        new.replace(path)  # as a sidecar should: nobody reads half a token

    def settings(self, way):
        """A worker's settings, and the principal it is for the broker's ACLs."""
        pems = self.certificates
        tls = {"kafka__security_protocol": "SSL", "kafka__ssl_cafile": pems.pem("ca")}
        if way == "SSL":
            return {"bootstrap": self.ways.tls, **tls}, "ANONYMOUS"
        if way == "mTLS":
            certificate = {
                "kafka__ssl_certfile": pems.pem("worker"),
                "kafka__ssl_keyfile": pems.key("locked"),
                "kafka__ssl_key_password": KEY_PASSWORD,
            }
            return {"bootstrap": self.ways.mutual_tls, **tls, **certificate}, CERTIFICATE_USER
        login = {
            **tls,
            "bootstrap": self.ways.sasl_tls,
            "kafka__security_protocol": "SASL_SSL",
            "kafka__sasl_mechanism": way,
        }
        if way == "OAUTHBEARER":
            return {**login, "kafka__sasl_token_file": self.token_file}, TOKEN_USER
        user, password = PASSWORDS[way]
        return {**login, "kafka__sasl_username": user, "kafka__sasl_password": password}, user

    def allow(self, principal, *granted):
        """`allow("user", ("Read", "topic", "tweets"))`; in force when this returns."""
        with admin(self.plaintext) as client:
            acls = [_acl(principal, *each) for each in granted]
            assert client.create_acls(acls)["failed"] == []
            for acl in acls:
                wait_until(lambda acl=acl: client.describe_acls(acl)[0], 30, "the ACL is there")

    def forbid(self, principal, operation, kind, name):
        """Takes away what `allow` gave."""
        acl = _acl(principal, operation, kind, name)
        with admin(self.plaintext) as client:
            client.delete_acls([acl])
            wait_until(lambda: not client.describe_acls(acl)[0], 30, "the ACL is gone")

    def _properties(self):
        pems, ways = self.certificates, self.ways
        listeners = {
            "TLS": ways.tls, "MTLS": ways.mutual_tls, "ELSEWHERE": ways.other_host,
            "SASLTLS": ways.sasl_tls, "SASLPLAIN": ways.sasl_plaintext,
        }  # fmt: skip
        protocols = {"SASLTLS": "SASL_SSL", "SASLPLAIN": "SASL_PLAINTEXT"}
        lines = {
            "listeners": "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},"
            + ",".join(f"{name}://{address}" for name, address in listeners.items()),
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
            + ",".join(f"{name}:{protocols.get(name, 'SSL')}" for name in listeners),
            "inter.broker.listener.name": "PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": pems.keystore("server"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": pems.pem("ca"),
            "listener.name.elsewhere.ssl.keystore.type": "PEM",
            "listener.name.elsewhere.ssl.keystore.location": pems.keystore("elsewhere"),
            "listener.name.mtls.ssl.client.auth": "required",
        }
        security = "org.apache.kafka.common.security"
        scram = f"{security}.scram.ScramLoginModule required;"
        user, password = PASSWORDS["PLAIN"]
        lines |= {
            f"listener.name.saslplain.{name}": value
            for name, value in {
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "scram-sha-512.sasl.jaas.config": scram,
            }.items()
        }
        return lines | {
            f"listener.name.sasltls.{name}": value
            for name, value in {
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
                "scram-sha-256.sasl.jaas.config": scram,
                "scram-sha-512.sasl.jaas.config": scram,
                "plain.sasl.jaas.config": f"{security}.plain.PlainLoginModule required "
                f'user_{user}="{password}";',
                "oauthbearer.sasl.jaas.config": f"{_OAUTH}.OAuthBearerLoginModule required "
                'unsecuredLoginStringClaim_sub="broker";',
                "oauthbearer.sasl.server.callback.handler.class": f"{_OAUTH}.internals.unsecured."
                "OAuthBearerUnsecuredValidatorCallbackHandler",
            }.items()
        }


def _acl(principal, operation, kind, name):
    return ACL(
        principal=f"User:{principal}",
        host="*",
        operation=ACLOperation[operation.upper()],
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(ResourceType[kind.upper()], name),
    )
