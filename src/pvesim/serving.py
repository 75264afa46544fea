"""aiohttp's server, loaded without the authorities of the system.

As it is imported, aiohttp makes two TLS contexts for its client and reads all authorities that the system trusts into
each, 40 ms of the start. A server asks nobody.
"""

import os
from typing import Final

_NAMED_BY: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Where OpenSSL looks for the system's authorities (SSL_CTX_set_default_verify_paths), if these are set."""

_before: Final = {name: os.environ.get(name) for name in _NAMED_BY}
try:
    os.environ.update(dict.fromkeys(_NAMED_BY, os.devnull))
    from aiohttp import web
finally:
    for _name, _value in _before.items():
        if _value is None:
            del os.environ[_name]
        else:
            os.environ[_name] = _value

__all__ = ["web"]
