"""Mail over SMTP: one connection that is opened when it is needed, with a deadline on every step."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from configs.contracts.errors import ConfigurationError, DependencyUnavailable, PlatformError
from configs.settings import Settings

TIMEOUT_S: Final = 10.0
NO_SUCH_RECIPIENT: Final = 553
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class MailRefused(PlatformError):
    """The server refuses this very mail for good (5xx): sending it again is of no use."""


class MailDeferred(PlatformError):
    """The server does not take this very mail now (4xx): try it again later."""


class Smtp:
    """Sends mail through ``SMTP_URL``: ``smtp://`` with STARTTLS (``?tls=off`` and loopback: without), or ``smtps://``.

    Belongs to one thread. Raises ConfigurationError: the URL cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        url = urlsplit(settings.smtp_url.get_secret_value())
        if url.scheme not in ("smtp", "smtps") or not url.hostname:
            raise ConfigurationError("SMTP_URL must be smtp://host:port or smtps://host:port")
        self._host, self._direct = url.hostname, url.scheme == "smtps"
        self._port = url.port or (465 if self._direct else 587)
        self._user, self._password = unquote(url.username or ""), unquote(url.password or "")
        self._upgrade = not self._direct and self._host not in LOOPBACK and parse_qs(url.query).get("tls") != ["off"]
        self._client: smtplib.SMTP | None = None

    def send(self, message: EmailMessage, address: str) -> None:
        """Sends it to the one address, whatever its headers say; returns once the server has taken the mail; cut off before that, the server may have it or not.

        Raises MailRefused, MailDeferred: about this mail. DependencyUnavailable: the server does not answer.
        """
        try:
            client = self._client = self._client or self._connect()
            client.send_message(message, to_addrs=[address])
        except smtplib.SMTPRecipientsRefused as error:
            self._reset()
            _raise_for(max((code for code, _ in error.recipients.values()), default=NO_SUCH_RECIPIENT), error)
        except smtplib.SMTPNotSupportedError as error:
            # The address is not ASCII, and this server takes no other.
            self._reset()
            _raise_for(NO_SUCH_RECIPIENT, error)
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            self._reset()
            _raise_for(error.smtp_code, error)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise DependencyUnavailable("the mail server does not answer", kind=type(error).__name__) from error

    def _connect(self) -> smtplib.SMTP:
        if self._direct:
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                self._host, self._port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
        else:
            client = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
            if self._upgrade:
                client.starttls(context=ssl.create_default_context())
        if self._user:
            client.login(self._user, self._password)
        return client

    def _reset(self) -> None:
        """After a refusal the connection goes on if the server takes RSET."""
        try:
            if self._client is not None:
                self._client.rset()
        except (smtplib.SMTPException, OSError):
            self.close()

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _raise_for(code: int, error: Exception) -> None:
    """The text of the answer may repeat the address: only the code is kept."""
    if code >= 500:
        raise MailRefused("the mail server refuses a mail", code=code) from error
    raise MailDeferred("the mail server defers a mail", code=code) from error
