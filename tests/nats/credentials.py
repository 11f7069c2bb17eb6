"""What servers know their users by, made for a test: nkeys, JWTs of an operator, certificates of an authority."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import nkeys
import pytest

if TYPE_CHECKING:
    from pathlib import Path

_NO_LIMITS = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT = _NO_LIMITS | {"imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
_STORAGE = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}


class Key:
    """A pair of keys. kind: what it is the key of."""

    def __init__(self, kind: int = nkeys.PREFIX_BYTE_USER) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), kind).decode()
        self._pair = nkeys.from_seed(bytearray(self.seed.encode()))
        self.public = self._pair.public_key.decode().rstrip("=")

    def signed(self, subject: str, name: str, claims: dict[str, Any], expires: float | None = None) -> str:
        """A JWT about `subject` that this key has signed."""
        said: dict[str, Any] = {"jti": name, "iat": int(time.time()), "iss": self.public, "name": name, "sub": subject}
        said["nats"] = claims | {"version": 2}
        if expires is not None:
            said["exp"] = int(expires)
        parts = ({"typ": "JWT", "alg": "ed25519-nkey"}, said)
        text = ".".join(_base64(json.dumps(part).encode()) for part in parts)
        return f"{text}.{_base64(self._pair.sign(text.encode()))}"


class Operator:
    """Who says which accounts there are, and an account that says which users there are."""

    def __init__(self) -> None:
        self._operator = Key(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = Key(nkeys.PREFIX_BYTE_ACCOUNT)
        self._system = Key(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def config(self) -> str:
        """What a server is to be told."""
        operator = self._operator.signed(self._operator.public, "operator", {"type": "operator"})
        accounts = {self._account.public: _ACCOUNT | _STORAGE, self._system.public: _ACCOUNT}
        known = [
            f"{public}: {self._operator.signed(public, public, {'type': 'account', 'limits': limits})}"
            for public, limits in accounts.items()
        ]
        lines = [f"operator: {operator}", f"system_account: {self._system.public}", "resolver: MEMORY"]
        return "\n".join([*lines, "resolver_preload: {", *known, "}"])

    def creds(self, file: Path, expires: float | None = None) -> Path:
        """The credentials file of a new user, who is nobody any more after a time."""
        user = Key()
        jwt = self._account.signed(user.public, "user", {"type": "user"} | _NO_LIMITS, expires)
        return secret(file, f"{_block('NATS USER JWT', jwt)}\n{_block('USER NKEY SEED', user.seed)}")


class Authority:
    """Who signs certificates; its own is `certificate`. Skips the test if there is no openssl."""

    def __init__(self, directory: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("certificates are made by openssl, which is not installed")
        directory.mkdir()
        self._directory = directory
        self._count = 0
        self._openssl(*_REQUEST, "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
        self.certificate = directory / "ca.pem"

    def issue(self, *extensions: str) -> tuple[Path, Path]:
        """A new certificate, and its key."""
        self._count += 1
        name = f"c{self._count}"
        (self._directory / f"{name}.ext").write_text("\n".join(extensions))
        self._openssl(*_REQUEST, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ["x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"]
        self._openssl(*signing, "-CAcreateserial", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        key = self._directory / f"{name}.key"
        key.chmod(0o600)
        return self._directory / f"{name}.pem", key

    def config(self, more: str = "") -> str:
        """What a server is to be told, to have a certificate for 127.0.0.1."""
        certificate, key = self.issue("subjectAltName=IP:127.0.0.1")
        files = f'cert_file: "{certificate}"\n key_file: "{key}"\n ca_file: "{self.certificate}"'
        return f"tls {{\n {files}\n {more}\n}}"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._directory, check=True, capture_output=True)


_REQUEST = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def secret(file: Path, text: str) -> Path:
    """A file that nobody else may read."""
    file.write_text(text)
    file.chmod(0o600)
    return file


def _block(name: str, text: str) -> str:
    return f"-----BEGIN {name}-----\n{text}\n------END {name}------\n"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
