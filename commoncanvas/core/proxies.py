"""Connections through the proxies that the environment names, or without."""

import ipaddress
import re
import urllib.request

import httpx

from commoncanvas.core.errors import ParameterError

LIMITS = httpx.Limits(max_keepalive_connections=100)


class Routes(httpx.AsyncBaseTransport):
    """Sends each request as HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say.

    It follows no redirect, and has no cookies to keep or send.

    Raises:
        ParameterError: a variable's value cannot be used.
    """

    def __init__(self) -> None:
        try:
            self.context = httpx.create_ssl_context()
        except OSError as error:
            raise ParameterError(
                f"SSL_CERT_FILE or SSL_CERT_DIR: {error}; expected certificates. "
                "Correct or unset it."
            ) from None
        named = urllib.request.getproxies()
        self.exceptions = [
            _exception(e) for e in re.split(r"[\s,]+", named.get("no", ""))
        ]
        everything = ("*", None) in self.exceptions
        self.proxies = {
            scheme: (f"{scheme.upper()}_PROXY", self._through(scheme, named[scheme]))
            for scheme in ("http", "https", "all")
            if named.get(scheme) and not everything
        }
        self.direct = httpx.AsyncHTTPTransport(verify=self.context, limits=LIMITS)

    def _through(self, scheme: str, address: str) -> httpx.AsyncHTTPTransport:
        try:
            url = httpx.URL(address if "://" in address else f"http://{address}")
            url.host.encode("idna")
            if not url.host or not 0 < (80 if url.port is None else url.port) < 2**16:
                raise ValueError("no host, or no port")
            return httpx.AsyncHTTPTransport(
                verify=self.context, limits=LIMITS, proxy=httpx.Proxy(url)
            )
        except (httpx.InvalidURL, ValueError) as error:
            shown = re.sub("//.*@", "//", address)  # it may hold a password
            raise ParameterError(
                f"{scheme.upper()}_PROXY: found {shown!r} ({type(error).__name__}), "
                "expected the address of an http, https, socks5 or socks5h proxy. "
                "Correct or unset it."
            ) from None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer, without its body."""
        url = request.url
        proxy = self.proxies.get(url.scheme) or self.proxies.get("all")
        if not proxy or any(_is_excepted(url, *e) for e in self.exceptions):
            return await self.direct.handle_async_request(request)
        variable, transport = proxy
        try:
            return await transport.handle_async_request(request)
        except httpx.ConnectError as error:
            raise httpx.ProxyError(f"through {variable}: {error}") from None

    async def aclose(self) -> None:
        """Close every connection."""
        for transport in (self.direct, *(proxy for _, proxy in self.proxies.values())):
            await transport.aclose()


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _exception(entry: str) -> tuple[str | Network, int | None]:
    """Return the network or name, and the port, of one entry of NO_PROXY."""
    entry = entry.rpartition("://")[2].lower()
    host, _, port = entry.rpartition(":")
    if port.isdecimal() and ("]" in host or ":" not in host):
        return _exception(host)[0], int(port)
    try:
        return ipaddress.ip_network(re.sub(r"[\[\]]", "", entry), strict=False), None
    except ValueError:
        return (entry if entry == "*" else entry.lstrip("*.")), None


def _is_excepted(url: httpx.URL, place: str | Network, port: int | None) -> bool:
    if port and port != (url.port or {"http": 80, "https": 443}[url.scheme]):
        return False
    if isinstance(place, str):
        return bool(place) and f".{url.host}".endswith(f".{place}")
    try:
        return ipaddress.ip_address(url.host) in place
    except ValueError:
        return False
