"""Which host names and web pages may use the server: against DNS rebinding and foreign pages."""

import ipaddress
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from fromnoise.serve.refusals import Refusal
from fromnoise.serve.settings import LOOPBACK, Settings

METHODS = "GET, POST, PUT, PATCH, DELETE"
HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id"
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "interest-cohort=()",
}


def check_host(host: str, settings: Settings) -> None:
    """Raises Refusal for a Host header that names somebody else's machine: a web page whose name
    was pointed at this address sends such a one. An address in numbers is no name."""
    name = split_host(host)
    allowed = {*LOOPBACK, settings.host, *settings.names}
    if name is None or (name not in allowed and not _is_address(name)):
        raise Refusal(
            421,
            "unknown_host",
            "this server does not answer to that host name",
            "start it with --name and that name",
        )


def check_origin(origin: str, host: str, scheme: str, settings: Settings) -> None:
    """Raises Refusal for a web page of another origin that is not listed."""
    if not is_own_origin(origin, host, scheme) and origin not in settings.origins:
        raise Refusal(
            403,
            "foreign_origin",
            "web pages of another origin may not use this server",
            "start it with --origin and that origin",
        )


def is_own_origin(origin: str, host: str, scheme: str) -> bool:
    """Whether a page comes from this server; where a proxy adds TLS, the server sees http."""
    return origin in (f"{scheme}://{host}", f"https://{host}")


def is_foreign(request: HTTPConnection) -> bool:
    """Whether a browser sends a request for a page of another origin, also a listed one."""
    headers = request.headers
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    scheme = request.scope["scheme"]
    return origin is not None and not is_own_origin(origin, headers.get("host", ""), scheme)


def is_own_page(request: HTTPConnection) -> bool:
    """Whether a browser sends a request for a page of this server. Browsers name the page with all
    but GET and HEAD, which change nothing."""
    safe = request.scope["method"] in ("GET", "HEAD")
    return not is_foreign(request) and (safe or "origin" in request.headers)


def allow_origin(origin: str, settings: Settings) -> dict[str, str]:
    """The headers that let a listed page read the answer."""
    if origin not in settings.origins:
        return {"vary": "Origin"}
    return {
        "vary": "Origin",
        "access-control-allow-origin": origin,
        "access-control-expose-headers": "Location, Retry-After, X-Request-Id",
        "cross-origin-resource-policy": "cross-origin",
    }


def allow_preflight() -> dict[str, str]:
    """The answer to a browser's question before a request of another origin."""
    return {
        "access-control-allow-methods": METHODS,
        "access-control-allow-headers": HEADERS,
        "access-control-max-age": "600",
    }


def split_host(host: str) -> str | None:
    """The name in a Host header, in small letters and without the port; None where it is broken."""
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  raises ValueError for a bad one
    except ValueError:
        return None
    clean = parts.netloc == host and not (parts.username or parts.path or parts.query)
    return (parts.hostname or "").rstrip(".") or None if clean else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
