"""HTTP with limits: one POST of JSON, repeated as long as that may help.

`requests` is enough for it, and every installation of musae has it (music21 needs it): the openai package would bring a client
of its own, whose repeats, waits and logs could then not be told apart from ours.
"""

from __future__ import annotations

import email.utils
import json
import os
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

import requests
import urllib3

from musae.errors import UserError

LARGEST = 2**20
"""Bytes of a body: more is no answer."""
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504, 529)
"""Statuses after which the same request may succeed."""
FATAL = (401, 403, 404)
"""Statuses after which no request will: a wrong key, no such model."""


@dataclass(frozen=True)
class Limits:
    """How hard an endpoint is pressed, and how long it is waited for."""

    per_minute: float | None = None
    """Requests that are sent in a minute, evenly spaced; None for no limit."""
    timeout: float = 120.0
    """Seconds for one exchange, until its last byte."""
    attempts: int = 5
    """Times that one request is sent at most."""
    backoff: float = 1.0
    """Seconds before the second attempt where the endpoint does not say; doubled for each further one."""
    longest_wait: float = 120.0
    """Seconds: an endpoint that says to wait longer is not waited for."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("per_minute", self.per_minute, 0),
            ("timeout", self.timeout, 0),
            ("attempts", self.attempts, 0),
        ):
            if value is not None and not value > least:
                raise UserError(f"{name} is {value}; give more than {least}.")


class Failure(Exception):
    """An exchange that gave nothing; the message says why, in one line, without the key."""

    def __init__(self, reason: str, kind: Literal["passing", "fatal"], status: int = 0) -> None:
        super().__init__(reason)
        self.kind = kind
        self.status = status


class Pace:
    """Turns of any number of threads, evenly spaced."""

    def __init__(self, per_minute: float | None) -> None:
        self._between = 60 / per_minute if per_minute else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Wait for this thread's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._between
        time.sleep(turn - now)

    def pause(self, seconds: float, everyone: bool) -> None:
        """Wait; `everyone`: no thread sends before that time, since the endpoint said so."""
        if everyone:
            with self._lock:
                self._next = max(self._next, time.monotonic() + seconds)
        else:
            time.sleep(seconds)


class Connection:
    """An address that JSON is posted to, from any number of threads."""

    def __init__(self, url: str, key_variable: str, limits: Limits) -> None:
        self.url, self.limits = url, limits
        self._key_variable = key_variable
        self._pace = Pace(limits.per_minute)
        self._sessions = threading.local()

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """The object that comes back. Raises Failure."""
        key = self._key()
        for attempt in range(self.limits.attempts):
            self._pace.wait()
            status, text, wait = self._send(body, key)
            text = text.replace(key, "[key]") if key else text
            if status == 200:
                try:
                    found = json.loads(text)
                    if isinstance(found, dict):
                        return found
                except (ValueError, RecursionError):
                    pass
                reason = "the endpoint's body is no JSON object"
            elif status:
                reason = f"HTTP {status}: {_said(text)}"
                if status not in AGAIN:
                    raise Failure(reason, "fatal" if status in FATAL else "passing", status)
            else:
                reason = text
            if wait is not None and wait > self.limits.longest_wait:
                raise Failure(f"{reason} (it asks to wait {wait:.0f} s)", "passing", status)
            if attempt + 1 < self.limits.attempts:
                self._pace.pause(max(wait or 0.0, self.limits.backoff * 2**attempt), everyone=wait is not None)
        raise Failure(f"{reason}, {self.limits.attempts} times", "fatal" if reason == NOBODY else "passing", status)

    def _send(self, body: dict[str, Any], key: str) -> tuple[int, str, float | None]:
        """Status, text and the seconds that the endpoint asks to wait; status 0 and a reason where nothing whole came back."""
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
        end = time.monotonic() + self.limits.timeout
        late = f"no answer within {self.limits.timeout:g} s"
        try:
            with self._sessions.session.post(
                self.url, json=body, auth=_Bearer(key), timeout=self.limits.timeout, stream=True, allow_redirects=False
            ) as response:
                received = bytearray()
                for piece in response.iter_content(16):  # a longer piece is waited for whole, past the time-out
                    received += piece
                    if time.monotonic() > end:
                        return 0, late, None
                    if len(received) > LARGEST:
                        return 0, f"the endpoint's body has more than {LARGEST} bytes", None
                return (
                    response.status_code,
                    received.decode("utf-8", "replace"),
                    _retry_after(response.headers.get("Retry-After")),
                )
        except requests.Timeout:
            return 0, late, None
        except requests.RequestException as error:
            if time.monotonic() > end:  # a time-out while the body is read is a ConnectionError
                return 0, late, None
            if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
                return 0, "the endpoint's body broke off", None
            hindered = isinstance(error, requests.exceptions.SSLError | requests.exceptions.ProxyError)
            if error.args and isinstance(error.args[0], urllib3.exceptions.MaxRetryError) and not hindered:
                return 0, NOBODY, None
            return 0, f"the connection to the endpoint failed ({type(error).__name__})", None

    def _key(self) -> str:
        if not self._key_variable:
            return ""
        key = os.environ.get(self._key_variable, "").strip()
        if not key:
            raise Failure(f"no key: the environment variable {self._key_variable} is not set", "fatal")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise Failure(f"the environment variable {self._key_variable} holds no key: it has spaces or odd characters", "fatal")
        return key


NOBODY = "nobody answers at the endpoint's address"


class _Bearer:
    """The key, put into a request as it is sent; without one, nothing: requests would else look into ~/.netrc."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, which are given as such or as a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _said(text: str) -> str:
    """The message of an error's body, in one line."""
    try:
        said = json.loads(text)
        said = said.get("error", said) if isinstance(said, dict) else said
        text = str(said.get("message", said) if isinstance(said, dict) else said) if said else ""
    except ValueError:
        pass
    return " ".join(text.split())[:200] or "no message"
