"""What mails say."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from typing import Final

from configs.contracts.events import MailRequested, MailTemplate
from configs.contracts.moderation import appeal_token
from configs.contracts.tokens import mail_token
from configs.settings import Settings

PURPOSES: Final[dict[MailTemplate, str]] = {
    "verify_address": "verify", "reset_password": "reset", "address_in_use": "reset", "change_address": "change",
}
"""What the token of a mail is for."""

_TEXTS: Final[dict[MailTemplate, tuple[str, str]]] = {
    "verify_address": (
        "Confirm your address",
        "Confirm that this address is yours with this token, within 24 hours:\n\n{token}\n\n"
        "If you did not ask for it, you need not do anything.",
    ),
    "reset_password": (
        "Choose a new password",
        "Choose a new password with this token, within an hour:\n\n{token}\n\n"
        "It works once and signs you out everywhere. If you did not ask for it, you need not do anything.",
    ),
    "address_in_use": (
        "You have an account already",
        "Somebody, probably you, tried to register with this address, which has an account already. "
        "If you have forgotten its password, choose a new one with this token:\n\n{token}\n\n"
        "It works once and signs you out everywhere. If it was not you, you need not do anything.",
    ),
    "change_address": (
        "Confirm your new address",
        "Somebody who is signed in to an account asked to sign in with this address from now on. If it was you, confirm it in "
        "the app where you are signed in with this token, within an hour:\n\n{token}\n\n"
        "If it was not you, you need not do anything.",
    ),
    "address_changed": (
        "The address of your account was changed",
        "Your account is signed in to with another address from now on, and every other device was signed out. "
        "Nothing more is mailed to this address, which signs in no more.\n\n"
        "If it was not you, tell the platform's support at once.",
    ),
    "sign_in_changed": (
        "A way to sign in to your account was changed",
        "A second factor or a passkey of your account was added or removed. "
        "If it was not you, choose a new password and end all sessions now.",
    ),
    "account_restricted": (
        "Your account was suspended or closed",
        "Moderators have suspended or closed your account because it broke the rules. "
        "You may ask once, within six months, that another moderator looks again, with this token:\n\n{token}",
    ),
    "reminder": (
        "Something new is waiting for you",
        "Something has happened since you were last here. Open the app to see it.\n\n"
        "You get this at most once until you are back, since you asked for it; the app's notification settings end it.",
    ),
    "password_changed": (
        "Your password was changed",
        "The password of your account was changed, and every other device was signed out. "
        "If it was not you, ask for a new password now.\n\n"
        "Passkeys and codes stay as they were: look at them in the app's sign-in settings, and take away what is not yours.",
    ),
}


def message(settings: Settings, key: bytes, request: MailRequested) -> EmailMessage:
    """The mail, with ``mail_id`` as its Message-ID: receivers know a repetition by it."""
    subject, text = _TEXTS[request.template]
    purpose = PURPOSES.get(request.template)
    token = ""
    if request.template == "account_restricted" and request.token_id is not None:
        # The decision is about the person who gets the mail.
        token = appeal_token(key, request.token_id, request.user_id, request.user_id)
        token = settings.mail.link.replace("{purpose}", "appeal").replace("{token}", token) or token
    if purpose is not None and request.token_id is not None:
        token = mail_token(key, purpose, request.email_hash, request.token_id)
        token = settings.mail.link.replace("{purpose}", purpose).replace("{token}", token) or token
    made = EmailMessage(policy=SMTP)
    made["From"], made["To"], made["Subject"] = settings.mail.sender, request.address, subject
    made["Message-ID"] = f"<{request.mail_id}@{settings.mail.domain}>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(text.replace("{token}", token) + "\n", cte="8bit")
    return made
