"""POST /psp/{connector}: what PSPs tell. Proved to be theirs, stored, and a reason to ask them; never believed about money.

There is no API key: the signature is the proof. 200 is said once the notification is stored and heeded, so that a PSP which
hears anything else sends it again. One that comes again, or about nothing of ours, is stored or known, and changes nothing.
"""

from typing import Final

import structlog

from guilder.api.http import Reply, Request
from guilder.api.services import Services
from guilder.core.errors import Refusal
from guilder.payments import told_by_psp
from guilder.psp import NotificationRefused
from guilder.psp.notifications import heeded, keep

PATH: Final = "/psp/"
# A notification says that something has changed; ten times what any PSP needs for that.
BODY_BYTES_MAX: Final = 64 * 1024
_TAKEN: Final = Reply(body=b'{"received":true}')

_log = structlog.get_logger()


async def take_notification(services: Services, request: Request) -> Reply:
    """Take one notification. Commits it, and that its attempt is to be asked about now; safe to repeat.

    Raises Refusal: no such connector (404), no POST (405), not the PSP's word of now (400). Unavailable: not stored, or not heeded
    yet; the PSP sends it again.
    """
    name = request.path.removeprefix(PATH)
    read = services.notifications.get(name)
    if read is None:
        raise Refusal("No connector of this name takes notifications.", status=404, code="resource_missing")
    if request.method != "POST":
        raise Refusal("Notifications are sent with POST.", status=405)
    body = await request.body(BODY_BYTES_MAX)
    headers = {field.decode("latin-1"): value.decode("latin-1") for field, value in request.headers.items()}
    try:
        notification = read(headers, body, services.clock.real())
    except NotificationRefused as error:
        _log.warning("psp_notification_refused", connector=name, why=str(error))
        raise Refusal(str(error), code="notification_refused") from error
    now = services.clock.now()
    if not await keep(services.db, name, notification, body, now):
        ours = await told_by_psp(services.payments, notification.attempt, name, notification.reference)
        if not ours:
            _log.warning("psp_notification_about_nothing", connector=name, reference=notification.reference)
        await heeded(services.db, name, notification, now)
    return _TAKEN
