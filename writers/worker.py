"""A writer: the threads that drain its partitions into rows, derive what follows, and keep Redis current."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog

from cluster.connections.spans import spans_of
from configs.contracts.topics import TOPICS
from configs.process import give_back_memory, map_large_buffers, process_space, quieten_collector, resident_bytes
from configs.settings import Settings, load_settings
from writers.consumers.derive import TOPICS as DERIVED_FROM
from writers.consumers.derive import Derive
from writers.consumers.feeds import TOPICS as FEEDS_FROM
from writers.consumers.feeds import Feeds
from writers.consumers.likes import TOPICS as LIKES_FROM
from writers.consumers.likes import Likes, settings_of
from writers.consumers.mail import TOPICS as MAILED
from writers.consumers.mail import Mail
from writers.consumers.media import KINDS, MediaConsumer, consumer_of
from writers.consumers.media import TOPICS as MEDIA_FROM
from writers.consumers.payments import TOPICS as WEBHOOKS
from writers.consumers.payments import Payments
from writers.loops import ConsumingThread
from writers.moderation_figures import keep_counting
from writers.payment_polling import PaymentPolling
from writers.projections.thread import ProjectionThread
from writers.pruning import keep_pruning
from writers.publishing import keep_publishing
from writers.push.consumer import TOPICS as PUSHED_FROM
from writers.push.consumer import PushConsumer, consumers_of
from writers.rebuild import ReadModelKeeper
from writers.records import Place
from writers.reminding import keep_reminding
from writers.rows import Rows
from writers.settling import SubscriptionSettling
from writers.settling_payments import PaymentSettling

log = structlog.get_logger(__name__)

JOIN_S = 5.0
NICENESS = 10
"""Of a writer's process: its bursts wait for those who answer people."""


def die(reason: str) -> None:
    """Ends this process: a fenced writer must stop, and Ray starts another where one is missing."""
    log.error("writer_ended", reason=reason)
    os._exit(1)


class Writer:
    """The writer of one slot: every topic's partitions with ``partition % writer_actors == slot``.

    The consumer ``derive`` and the read model's keeper run beside the rows; each has its own connection and position.
    """

    def __init__(self, settings: Settings, slot: int, *, fenced: Callable[[str], None] = die) -> None:
        name = f"writer-{slot}"
        partitions = range(slot, settings.log.partitions, settings.plan.writer_actors)
        self._slot = slot
        self._spans = spans_of(settings, name)
        self._rows_handler = Rows(settings, name)
        self._rows = ConsumingThread(
            settings, f"{name}-rows", self._rows_handler,
            [(topic.name, partition) for topic in TOPICS for partition in partitions], fenced=fenced, spans=self._spans,
        )
        self._derive = ConsumingThread(
            settings, f"{name}-derive", Derive(settings, name),
            [(topic.name, partition) for topic in DERIVED_FROM for partition in partitions], fenced=fenced, spans=self._spans,
            without=self._stopped,
        )
        self._likes = ConsumingThread(
            settings_of(settings), f"{name}-likes", Likes(settings, name),
            [(topic.name, partition) for topic in LIKES_FROM for partition in partitions], fenced=fenced, spans=self._spans,
            without=self._stopped,
        )
        self._feeds_handler = Feeds(settings)
        self._feeds = ConsumingThread(
            settings, f"{name}-feeds", self._feeds_handler,
            [(topic.name, partition) for topic in FEEDS_FROM for partition in partitions], fenced=fenced, spans=self._spans,
            without=self._stopped,
        )
        self._mail_handler = Mail(settings)
        self._mail = ConsumingThread(
            settings, f"{name}-mail", self._mail_handler,
            [(topic.name, partition) for topic in MAILED for partition in partitions], fenced=fenced, spans=self._spans,
            without=self._stopped,
        )
        self._payments_handler = Payments(settings, name)
        self._payments = ConsumingThread(
            settings, f"{name}-payments", self._payments_handler,
            [(topic.name, partition) for topic in WEBHOOKS for partition in partitions], fenced=fenced, spans=self._spans,
            without=self._stopped,
        )
        self._looks = {
            "payment_polling": PaymentPolling(settings, name),
            "subscription_settling": SubscriptionSettling(settings, name),
            "payment_settling": PaymentSettling(settings, name),
        }
        self._projection = ProjectionThread(
            settings, f"{name}-projection",
            [(topic.name, partition) for topic in TOPICS for partition in partitions], self._committed, fatal=fenced,
            stopped=self._stopped,
        )
        self._stopping = threading.Event()
        self._push = {
            provider: PushConsumer(settings, name, provider, self._stopping) for provider in consumers_of(settings)
        }
        self._pushing = {
            provider: ConsumingThread(
                settings_of(settings), f"{name}-push-{provider}", consumer,
                [(topic.name, partition) for topic in PUSHED_FROM for partition in partitions], fenced=fenced, spans=self._spans,
                without=self._stopped,
            )
            for provider, consumer in self._push.items()
        }
        self._media = {consumer_of(kind): MediaConsumer(settings, name, kind) for kind in KINDS}
        self._processing = {
            consumer: ConsumingThread(
                settings, f"{name}-{consumer}", handler,
                [(topic.name, partition) for topic in MEDIA_FROM for partition in partitions], fenced=fenced, spans=self._spans,
                without=self._stopped,
            )
            for consumer, handler in self._media.items()
        }
        self._threads: tuple[ConsumingThread | ProjectionThread, ...] = (
            self._rows, self._derive, self._likes, self._feeds, self._mail, self._payments, self._projection,
            *self._pushing.values(),
            *self._processing.values(),
        )
        self.moderation: dict[str, int] = {}
        """What waits for a decision; empty where another writer counts."""
        # One of the writers does what must be done once in a platform.
        self._read_model = None if slot else ReadModelKeeper(settings, fatal=fenced)
        self._once = [] if self._read_model is None else [
            threading.Thread(
                target=self._read_model.run, args=(self._stopping,), name=f"{name}-keeper", daemon=True
            ),
            threading.Thread(
                target=keep_pruning, args=(settings, self._stopping), kwargs={"fatal": fenced}, name=f"{name}-pruning",
                daemon=True,
            ),
            *(
                threading.Thread(
                    target=looks.run, args=(self._stopping,), kwargs={"fatal": fenced}, name=f"{name}-{of}", daemon=True
                )
                for of, looks in self._looks.items()
            ),
            threading.Thread(
                target=keep_publishing, args=(settings, self._stopping), kwargs={"fatal": fenced}, name=f"{name}-publishing",
                daemon=True,
            ),
            threading.Thread(
                target=keep_reminding, args=(settings, self._stopping), kwargs={"fatal": fenced}, name=f"{name}-reminding",
                daemon=True,
            ),
            threading.Thread(
                target=keep_counting, args=(settings, self._stopping, self.moderation), name=f"{name}-moderation", daemon=True
            ),
        ]

    def _committed(self) -> Mapping[Place, int]:
        return self._rows.committed

    def _stopped(self) -> Collection[str]:
        """Topics of which too many records could not be applied: neither rows nor what waits for rows goes on there."""
        return self._rows.stopped

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        for once in self._once:
            once.start()

    def stop(self) -> None:
        """Ends the threads between two batches."""
        self._stopping.set()
        for thread in self._threads:
            thread.stop()
        for thread in self._threads:
            thread.join(JOIN_S)
        for once in self._once:
            once.join(JOIN_S)
        if self._spans is not None:
            self._spans.close()

    @property
    def ready(self) -> bool:
        return self._rows.epoch > 0

    def describe(self) -> dict[str, Any]:
        return {
            "rows": self._rows.describe(), "derive": self._derive.describe(), "likes": self._likes.describe(),
            "projection": self._projection.describe(), "mail": self._mail.describe() | dict(self._mail_handler.figures),
            "payments": self._payments.describe() | dict(self._payments_handler.figures),
            **{of: looks.describe() for of, looks in self._looks.items()},
            "feeds": self._feeds.describe() | dict(self._feeds_handler.figures),
            **{consumer: thread.describe() | dict(self._media[consumer].figures) for consumer, thread in self._processing.items()},
            **{f"push_{provider}": self._describe_push(provider) for provider in self._push},
            "epoch": self._rows.epoch, "dead_letters": self._rows_handler.dead_letters,
            "stored": dict(self._rows_handler.stored),
            **({} if self._read_model is None else {"read_model": self._read_model.state}),
        }

    def _describe_push(self, provider: str) -> dict[str, Any]:
        figures = self._push[provider].describe()
        stopped = {"state": f"stopped, keys refused: {figures['refused']}"} if figures["refused"] else {}
        return self._pushing[provider].describe() | figures | stopped


def remote_writer() -> Any:
    """The Ray actor class; launch gives it name, lifetime and resources. Constructed with its name ``writer-N``."""
    import ray

    class WriterActor:
        def __init__(self, name: str) -> None:
            self._name = name
            os.nice(NICENESS)
            map_large_buffers()
            self._writer = Writer(load_settings(), int(name.rpartition("-")[2]))
            self._writer.start()
            quieten_collector()
            # A look at the processor leaves its connection in a cycle, twice a minute.
            give_back_memory(cycles=True)

        async def ping(self) -> dict[str, Any]:
            """Liveness and figures for the keeper and status."""
            return {
                "actor": self._name, "pid": os.getpid(), "space": process_space(), "memory_bytes": resident_bytes(),
                "ready": self._writer.ready, **self._writer.describe(),
            }

    return ray.remote(max_restarts=-1, max_task_retries=0, max_concurrency=10)(WriterActor)
