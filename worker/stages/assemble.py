"""The assemble thread: documents to staged micro-batches, beside the running model.

While the model runs one batch the next is tokenized, chosen and staged. `Assembler` does the work,
without a queue or a clock; `AssembleStage` calls `step` and waits as long as `patience` says.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, assert_never

import structlog

from worker import awake
from worker.batch import Batcher, ElasticBudget
from worker.messages import Abort, Barrier, Documents, Drain, Ended, Finished, Outcomes
from worker.records import Document, Encoded, FlushReason, Lease, MicroBatch, Rejection
from worker.stages.inbox import next_of
from worker.stages.inference import CANARY, stage
from worker.stages.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet
    from queue import SimpleQueue

    from worker.classifier import Classifier
    from worker.messages import Staged, ToAssemble, ToClassify, ToPublish
    from worker.metrics import Metrics
    from worker.waiting import Budget

log = structlog.get_logger(__name__)

TOKENIZE_AT_ONCE = 256
"""Texts of one tokenizer call: enough to use every core, few enough to feed an idle model soon."""
TOKENIZE_BYTES = 524_288
"""Bytes of UTF-8 of one tokenizer call, or one text that is longer: a tokenizer takes up to 450
bytes of memory and 2 us for each. Twice as many are not faster: 256 texts have about 25 kB."""


class Assembler:
    """Tokenizes documents, and chooses and stages batches.

    It keeps one batch ready beyond those that the model runs, and no more: documents that come
    later cannot join a batch that is already chosen, even if their lengths fit better.

    Args:
        classifier: Tokenizes and stages.
        budget: What a batch may hold while there is memory for it.
        metrics: Counts batches and texts.
        publish: Takes the rejections of documents for which the tokenizer fails.
    """

    def __init__(
        self,
        *,
        classifier: Classifier,
        budget: Budget,
        metrics: Metrics,
        publish: Callable[[ToPublish], None],
    ) -> None:
        self._publish = publish
        self._classifier = classifier
        self._metrics = metrics
        self._budget = ElasticBudget(budget)
        self._batcher = Batcher(budget=budget)
        self._backlog: deque[Document] = deque()
        self._under_way = 0
        self._pace = Pace()
        # What a tokenizer makes of no text; some keep a token for the space.
        self._wordless = {tuple(ids) for ids, _ in classifier.tokenize(["", " "])}
        self._hand_back_at: float | None = None

    @property
    def done(self) -> bool:
        """Whether a drain has nothing left to give to the model."""
        return self._hand_back_at is not None and not self._backlog and not len(self._batcher)

    def add(self, documents: Iterable[Document]) -> None:
        """Takes documents in."""
        self._backlog.extend(documents)

    def finished(
        self, batch: MicroBatch, *, out_of_memory: bool, seconds: float | None, now: float
    ) -> None:
        """The model finished one batch, or ran out of memory in it, or had no time left for it."""
        self._under_way -= 1
        if seconds is None:
            self._hand_back()
            return
        self._pace.took(seconds)
        if not self._budget.ran(batch, out_of_memory=out_of_memory, at=now):
            return
        budget = self._batcher.budget = self._budget.now
        if out_of_memory:
            log.warning(
                "batches_halved", max_records=budget.max_records, max_tokens=budget.max_tokens
            )
        elif budget == self._budget.full:
            log.info("batches_whole_again", max_records=budget.max_records)

    def void(self, leases: AbstractSet[Lease]) -> None:
        """Forgets the documents of leases that ended."""
        self._backlog = deque(d for d in self._backlog if d.record.lease not in leases)
        self._batcher.discard(lambda item: item.document.record.lease in leases)

    def drain(self, hand_back_at: float) -> None:
        """No more documents come; what cannot be labelled by that time is handed back."""
        self._hand_back_at = hand_back_at

    def patience(self, now: float) -> float | None:
        """Seconds that `step` may wait for a message; None if only a message changes anything."""
        if self._backlog:
            return 0.0
        until = self._hand_back_at
        if until is not None and len(self._batcher):
            return max(0.0, until - now)
        return None if self._under_way > self._classifier.depth else self._batcher.wait(now)

    def step(self, now: float) -> list[Staged]:
        """One step of the work: tokenizes some documents, returns the batches that are due."""
        if self._hand_back_at is not None and not self._in_time(now, self._hand_back_at):
            self._hand_back()
        if self._backlog:
            self._tokenize(now)
        staged = []
        while (reason := self._due(now)) is not None:
            staged.append(self._stage(reason, now))
            self._under_way += 1
        return staged

    def _in_time(self, now: float, until: float) -> bool:
        """Whether a drain may still label something: now, or when what is under way is finished."""
        if self._under_way and not self._pace.known:
            return now <= until
        return self._pace.fits(self._under_way + 1, now=now, until=until)

    def _due(self, now: float) -> FlushReason | None:
        depth = self._classifier.depth
        if self._under_way > depth:
            return None
        draining = self._hand_back_at is not None
        reason = self._batcher.due(now, idle=self._under_way < depth, draining=draining)
        # Documents that are not tokenized yet may fit the batch better.
        return None if self._backlog and reason != "full" else reason

    def _tokenize(self, now: float) -> None:
        documents = self._next_documents()
        begin = time.perf_counter()
        try:
            items = self._encode(documents)
        except Exception:  # noqa: BLE001 - around a tokenizer call; each text is judged alone
            items = self._encode_one_by_one(documents)
        items = self._with_words(items)
        self._batcher.add(items, now)
        self._metrics.tokenized(items)
        self._metrics.stage_ran("tokenize", time.perf_counter() - begin)

    def _next_documents(self) -> list[Document]:
        backlog, room = self._backlog, TOKENIZE_BYTES
        documents: list[Document] = []
        while backlog and len(documents) < TOKENIZE_AT_ONCE:
            text = backlog[0].text
            room -= len(text) if text.isascii() else len(text.encode())
            if room < 0 and documents:
                break
            documents.append(backlog.popleft())
        return documents

    def _encode(self, documents: list[Document]) -> list[Encoded]:
        tokens = self._classifier.tokenize([document.text for document in documents])
        return [
            Encoded(document, ids, cut)
            for document, (ids, cut) in zip(documents, tokens, strict=True)
        ]

    def _encode_one_by_one(self, documents: list[Document]) -> list[Encoded]:
        items: list[Encoded] = []
        failed: list[Rejection] = []
        for document in documents:
            try:
                items += self._encode([document])
            except Exception as error:  # noqa: BLE001 - around a tokenizer call
                message = f"the tokenizer fails on this text: {type(error).__name__}"
                failed.append(Rejection(document.record, "model_failed", message))
        if failed:
            self._classifier.tokenize([CANARY])  # raises where the tokenizer itself is broken
            self._publish(Outcomes(failed))
        return items

    def _with_words(self, items: list[Encoded]) -> list[Encoded]:
        """Rejects texts of which the tokenizer leaves nothing: they would all get one score."""
        message = "the tokenizer leaves no token of the text"
        most = max(map(len, self._wordless))
        if min([len(item.tokens) for item in items], default=most + 1) > most:
            return items
        kept: list[Encoded] = []
        rejected: list[Rejection] = []
        for item in items:
            if len(item.tokens) <= most and tuple(item.tokens) in self._wordless:
                rejected.append(Rejection(item.document.record, "empty_text", message))
            else:
                kept.append(item)
        if rejected:
            self._publish(Outcomes(rejected))
        return kept

    def _stage(self, reason: FlushReason, now: float) -> Staged:
        begin = time.perf_counter()
        batch = self._batcher.take(reason)
        staged = stage(self._classifier, batch)
        self._metrics.batch_taken(batch, tokens=self._batcher.budget.tokens(batch), now=now)
        self._metrics.stage_ran("stage", time.perf_counter() - begin)
        return staged

    def _hand_back(self) -> None:
        records = len(self._backlog) + self._batcher.discard(lambda _: True)
        self._backlog.clear()
        if records:
            log.info("records_handed_back", records=records)


class AssembleStage:
    """Feeds the assembler from its inbox, and the model from the assembler.

    Args:
        inbox: Documents, ended leases, finished batches, and the drain.
        assembler: Does the work.
        classify: Takes staged batches, and at the end the barrier.
    """

    def __init__(
        self,
        *,
        inbox: SimpleQueue[ToAssemble],
        assembler: Assembler,
        classify: Callable[[ToClassify], None],
    ) -> None:
        self._inbox = inbox
        self._assembler = assembler
        self._classify = classify

    def run(self) -> None:
        """Runs until a drain has nothing left, or an abort.

        Raises:
            Exception: The tokenizer fails for every text.
        """
        assembler = self._assembler
        while not assembler.done:
            message = next_of(self._inbox, assembler.patience(awake.now()))
            while message is not None:
                if isinstance(message, Abort):
                    return
                self._handle(message)
                message = next_of(self._inbox, 0.0)
            for staged in assembler.step(awake.now()):
                self._classify(staged)
        self._classify(Barrier())

    def _handle(self, message: Documents | Ended | Finished | Drain) -> None:
        match message:
            case Documents(documents):
                self._assembler.add(documents)
            case Finished(batch, out_of_memory, seconds):
                self._assembler.finished(
                    batch, out_of_memory=out_of_memory, seconds=seconds, now=awake.now()
                )
            case Ended(leases):
                self._assembler.void(leases)
            case Drain(hand_back_at):
                self._assembler.drain(hand_back_at)
            case _:
                assert_never(message)
