"""TLS at the public entry point: off, with a certificate of one's own, or with one that Traefik gets by ACME.

Adds to Traefik's two configurations what each of the ways needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.errors import BadSetting

RESOLVER = "acme"


@dataclass(frozen=True)
class Tls:
    """Either the two files or the two names are there."""

    certificate: str = ""
    """Path of a PEM file: the certificate and those between it and its authority."""
    key: str = ""
    acme_domain: str = ""
    acme_email: str = ""


def read_tls(root: Path, values: Mapping[str, str]) -> Tls | None:
    """None where no certificate is asked for. Relative paths begin at the project. Raises `BadSetting`."""
    certificate, key = values.get("CHAT_TLS_CERT", ""), values.get("CHAT_TLS_KEY", "")
    domain, email = values.get("CHAT_ACME_DOMAIN", ""), values.get("CHAT_ACME_EMAIL", "")
    if not any((certificate, key, domain, email)):
        return None
    if (certificate or key) and (domain or email):
        raise BadSetting("CHAT_ACME_DOMAIN", domain, "nothing, where CHAT_TLS_CERT and CHAT_TLS_KEY are set")
    pairs = {"CHAT_TLS_CERT": certificate, "CHAT_TLS_KEY": key} if certificate or key else {}
    for name, value in pairs.items():
        if not value or not (root / value).is_file():
            raise BadSetting(name, value, "the path of a PEM file (CHAT_TLS_CERT and CHAT_TLS_KEY go together)")
    if not pairs and not (domain and "@" in email):
        raise BadSetting("CHAT_ACME_EMAIL", email, "an e-mail address, and with it CHAT_ACME_DOMAIN, a host name")
    certificate, key = (str((root / path).absolute()) if path else "" for path in (certificate, key))
    return Tls(certificate, key, domain, email)


def add_to_static(tls: Tls, configuration: dict[str, Any], *, acme_storage: str) -> None:
    """`acme_storage` is the file, as Traefik sees it, that the certificates got are kept in."""
    entry: dict[str, Any] = {}
    if tls.acme_domain:
        entry = {"certResolver": RESOLVER, "domains": [{"main": tls.acme_domain}]}
        # TLS-ALPN-01 (RFC 8737) needs no second port: the authority comes to port 443 of the domain.
        acme = {"email": tls.acme_email, "storage": acme_storage, "tlsChallenge": {}}
        configuration["certificatesResolvers"] = {RESOLVER: {"acme": acme}}
    configuration["entryPoints"]["web"]["http"] = {"tls": entry}


def add_to_dynamic(tls: Tls, configuration: dict[str, Any], *, certificate: str, key: str) -> None:
    """`certificate` and `key` are paths as Traefik sees them."""
    configuration["http"]["services"]["chat"]["loadBalancer"]["sticky"]["cookie"]["secure"] = True
    if tls.certificate:
        pair = {"certFile": certificate, "keyFile": key}
        # For every name that a client asks for, and for those who ask for none.
        configuration["tls"] = {"stores": {"default": {"defaultCertificate": pair}}}
