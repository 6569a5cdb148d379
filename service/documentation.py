"""The page at `/docs`: Swagger UI of one version, and what a browser may load and run for it. Knows no route."""

from __future__ import annotations

import base64
import hashlib
import re

from fastapi.openapi.docs import get_swagger_ui_html

PATH = "/docs"
_DIST = "https://cdn.jsdelivr.net/npm/swagger-ui-dist@5.35.0"
SCRIPT = (f"{_DIST}/swagger-ui-bundle.js", "sha384-gjRm0bEPMeTmMh5jT2cHccIwCUZSTd8YC+j0d0sXw0MdGEfScduGpSyF3ZSSLkX9")
STYLE = (f"{_DIST}/swagger-ui.css", "sha384-WlYgdmXYOOBWL5apwjDEZwN+U3HmXSSu5R6V5aGxEcf7z+KuRNwBhoxKVN1i3D5I")
"""Address and digest of what the page loads: a browser takes no other bytes. Both are of npm's swagger-ui-dist."""
NO_ICON = "data:,"

_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def page(openapi_url: str, title: str) -> str:
    """The page, whose script and style a browser checks against their digests."""
    made = get_swagger_ui_html(
        openapi_url=openapi_url,
        title=title,
        swagger_js_url=SCRIPT[0],
        swagger_css_url=STYLE[0],
        swagger_favicon_url=NO_ICON,
    )
    text = bytes(made.body).decode()
    for address, digest in (SCRIPT, STYLE):
        text = text.replace(f'"{address}"', f'"{address}" integrity="{digest}" crossorigin="anonymous"')
    return text


def policy(text: str) -> str:
    """The Content-Security-Policy of such a page: its own script and Swagger UI's, and requests to this service."""
    inline = " ".join(f"'sha256-{_digest(script)}'" for script in _INLINE.findall(text))
    return (
        f"default-src 'none'; script-src {SCRIPT[0]} {inline}; style-src {STYLE[0]}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(script: str) -> str:
    """The SHA-256 of a script, as policies name it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
