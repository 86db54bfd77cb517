"""TLS certificates for tests, made with openssl: a certificate authority, and certificates signed by it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """A certificate authority in a folder. ``ca`` is the path of its certificate."""

    def __init__(self, folder: Path):
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed; it makes the certificates")
        folder.mkdir()
        self.folder, self.ca = folder, folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl("req", "-x509", *_new_key(self._key), "-subj", "/CN=test authority", "-days", "2", "-out", self.ca)

    def certificate(self, name: str) -> tuple[Path, Path]:
        """(path of the certificate, path of the key) for 127.0.0.1 and localhost. name: of the files."""
        certificate, key, asked, more = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        more.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        _openssl("req", "-new", *_new_key(key), "-subj", f"/CN={name}", "-out", asked)
        signed_by = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial")
        _openssl("x509", "-req", "-in", asked, *signed_by, "-days", "2", "-extfile", more, "-out", certificate)
        return certificate, key


def _new_key(file: Path) -> tuple:
    return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
