"""A broker that knows users and rights: three listeners on one process, without login, with SASL, with TLS."""

import shutil
import subprocess
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.servers.errors import ServerFailed, ServerUnavailable
from tests.servers.kafka import ADMIN_SECONDS, KafkaServer, make_admin
from tests.servers.process import free_port, make_directory, remove_directory

PLAIN_USER, PLAIN_PASSWORD = "plain-reader", "plain-password-of-the-reader"
SCRAM_ITERATIONS = 4096
DAYS = "30"


class SecureKafkaServer(KafkaServer):
    """Who comes without login may do everything; who comes with SASL only what an ACL allows.

    `bootstrap` is the listener without login, `sasl` and `tls` are the others. The certificate of the
    TLS listener is signed by `authority`; clients that do not know it must refuse the broker.
    """

    def __init__(self) -> None:
        self._certificates = make_directory("certificates")
        self._sasl_port = self._tls_port = 0
        self._admin: AdminClient | None = None
        super().__init__(local=True)
        if shutil.which("openssl") is None:
            message = "no certificates for the Kafka broker; to make them: install openssl"
            raise ServerUnavailable(message)

    @property
    def sasl(self) -> str:
        return f"127.0.0.1:{self._sasl_port}"

    @property
    def tls(self) -> str:
        return f"127.0.0.1:{self._tls_port}"

    @property
    def authority(self) -> Path:
        """The certificate that signed the broker's."""
        return self._certificates / "authority.pem"

    @property
    def admin(self) -> AdminClient:
        """One client for all questions: one that nobody refers to any more takes its answers with it."""
        if self._admin is None:
            self._admin = make_admin(self.bootstrap)
        return self._admin

    def close(self) -> None:
        super().close()
        remove_directory(self._certificates)

    # -- users and rights ---------------------------------------------------------------------

    def set_password(self, user: str, password: str) -> None:
        """Create a user of SCRAM-SHA-256, or change the password."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, SCRAM_ITERATIONS)
        change = UserScramCredentialUpsertion(user, info, password.encode())
        self.admin.alter_user_scram_credentials([change])[user].result(ADMIN_SECONDS)

    def allow(self, user: str, kind: ResourceType, name: str, *operations: AclOperation) -> None:
        """Grant `user` these operations, Read unless others are named."""
        bindings = [_binding(user, kind, name, operation) for operation in operations or (AclOperation.READ,)]
        for granted in self.admin.create_acls(bindings).values():
            granted.result(ADMIN_SECONDS)

    def forbid(self, user: str, kind: ResourceType, name: str) -> None:
        """Take back all that `user` was allowed on this resource."""
        what = AclBindingFilter(
            kind,
            name,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        for taken in self.admin.delete_acls([what]).values():
            taken.result(ADMIN_SECONDS)

    # -- inside -------------------------------------------------------------------------------

    def _settings(self, host: str, controller_port: int) -> dict[str, str]:
        self._certificates.mkdir(exist_ok=True)
        _make_certificates(self._certificates)
        self._sasl_port, self._tls_port = free_port(), free_port()
        addresses = f"PLAINTEXT://{self.bootstrap},SASL://{self.sasl},TLS://{self.tls}"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        plain = (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'user_{PLAIN_USER}="{PLAIN_PASSWORD}";'
        )
        return super()._settings(host, controller_port) | {
            "listeners": f"{addresses},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": addresses,
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT"
            ),
            "listener.name.sasl.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl.plain.sasl.jaas.config": plain,
            "listener.name.tls.ssl.keystore.type": "PEM",
            "listener.name.tls.ssl.keystore.location": str(self._certificates / "broker.pem"),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            # A client whose login failed is answered at once, so that tests need not wait.
            "connection.failed.authentication.delay.ms": "0",
        }


def _binding(user: str, kind: ResourceType, name: str, operation: AclOperation) -> AclBinding:
    return AclBinding(
        kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, AclPermissionType.ALLOW
    )


def _make_certificates(folder: Path) -> None:
    """An authority of our own, and a certificate for 127.0.0.1 that it signed; `broker.pem` has key and chain."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", DAYS]
    authority = ["-keyout", folder / "authority.key", "-out", folder / "authority.pem"]
    _openssl("req", "-x509", *key, *authority, "-subj", "/CN=authority of the tests")
    signed = ["-CA", folder / "authority.pem", "-CAkey", folder / "authority.key"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    broker = ["-keyout", folder / "broker.key", "-out", folder / "broker.crt"]
    _openssl("req", "-x509", *key, *signed, *broker, *names)
    parts = ("broker.key", "broker.crt", "authority.pem")
    (folder / "broker.pem").write_text("".join((folder / part).read_text() for part in parts))


def _openssl(*arguments: object) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"openssl could not make a certificate:\n{done.stderr}"
        raise ServerFailed(message)
