"""`sugar mail`: what the platform has mailed into its embedded mailbox."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from rich.console import Console

from cluster.embedded.mailbox import mails
from cluster.launch.servers import mail_dir


def show(console: Console, data_dir: Path, *, to: str | None, limit: int) -> None:
    """Prints the newest mails, the newest last."""
    chosen = (mail for mail in mails(mail_dir(data_dir)) if to is None or to.lower() in str(mail["To"]).lower())
    found = list(islice(chosen, limit))
    if not found:
        console.print("no mail" + ("" if to is None else f" to {to}") + "; with SMTP_URL set it goes to that server", markup=False)
    for mail in reversed(found):
        body = mail.get_body(("plain",))
        console.print(f"To: {mail['To']}\nSubject: {mail['Subject']}\nMessage-ID: {mail['Message-ID']}", markup=False)
        console.out("\n" + ("" if body is None else body.get_content()), highlight=False)
