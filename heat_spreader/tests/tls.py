#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""Private certificate authorities, and servers that end TLS before others, as sites have them."""

import contextlib
import datetime
import ipaddress
import pathlib
import select
import socket
import ssl
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HERE = "127.0.0.1"


class Authority:
    """A certificate authority that nobody knows who was not told.

    :ivar pem: its own certificate, as it is handed over
    """

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        made = _certificate(self._name, self._name, self._key.public_key(), 1)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        made = made.add_extension(_usage(signs_certificates=True), critical=True)
        self._certificate = made.sign(self._key, hashes.SHA256())
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, file: pathlib.Path, *, host: str = HERE, days: int = 1) -> pathlib.Path:
        """Write a server's key and certificate to a file and give its path.

        :param days: that it is good for, from yesterday on; with 0 it has expired
        """
        key = ec.generate_private_key(ec.SECP256R1())
        alternative = x509.IPAddress(ipaddress.ip_address(host))
        made = _certificate(_name(host), self._name, key.public_key(), days)
        made = made.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        made = made.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )
        certificate = made.sign(self._key, hashes.SHA256())
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return file


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days, seconds=-1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


class Front:
    """Ends TLS on a port of loopback and passes on to another one what is inside.

    :ivar delay: seconds before it passes anything on, for each connection
    """

    def __init__(self, port: int, behind: int, certificate: pathlib.Path) -> None:
        """:param certificate: as ``Authority.issue`` writes it"""
        self.url = f"https://{HERE}:{port}"
        self.delay = 0.0
        self._behind = behind
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.show(certificate)
        self._listening = socket.create_server((HERE, port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def show(self, certificate: pathlib.Path) -> None:
        """Show this certificate from now on; whoever is connected has to come again."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._context = context
        self._hang_up()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._hang_up()

    def _hang_up(self) -> None:
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as closing:
            closing.enter_context(connection)
            try:
                inside = self._context.wrap_socket(connection, server_side=True)
                closing.enter_context(inside)
                time.sleep(self.delay)
                outside = closing.enter_context(socket.create_connection((HERE, self._behind)))
            except OSError:
                return  # it did not trust us, or nobody is behind us
            with self._lock:
                self._open |= {inside, outside}
            with contextlib.suppress(OSError):
                _relay(inside, outside)
            with self._lock:
                self._open -= {inside, outside}


def _relay(inside: ssl.SSLSocket, outside: socket.socket) -> None:
    """Pass on in both directions until one of them ends; in one thread, as TLS wants it."""
    while True:
        ready: list[socket.socket] = [inside]
        if not inside.pending():
            ready, _, _ = select.select([inside, outside], [], [])
        for source in ready:
            data = source.recv(65536)
            if not data:
                return
            (outside if source is inside else inside).sendall(data)
