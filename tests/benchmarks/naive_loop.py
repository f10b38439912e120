"""The loop that most tutorials show: kafka-python and a pipeline, one text at a time.

    python -m tests.benchmarks.naive_loop BOOTSTRAP INPUT OUTPUT CHECKPOINT COUNT

Prints messages/s from the first message to the last acknowledgement.
"""

import json
import sys
import time
import uuid

import transformers
from kafka import KafkaConsumer, KafkaProducer
from transformers import pipeline


def main():
    bootstrap, source, target, checkpoint, count = sys.argv[1:]
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    classify = pipeline("text-classification", model=checkpoint, device="cpu")
    classify("warm up")
    consumer = KafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=f"naive-{uuid.uuid4().hex[:8]}",
        auto_offset_reset="earliest",
        value_deserializer=json.loads,
    )
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, value_serializer=lambda value: json.dumps(value).encode()
    )
    begin = None
    for done, message in enumerate(consumer, 1):
        begin = begin or time.perf_counter()
        answer = classify(message.value["text"])[0]
        producer.send(target, key=message.key, value={"id": message.value["id"], **answer})
        if done == int(count):
            break
    producer.flush()
    print(int(count) / (time.perf_counter() - begin))
    consumer.close()
    producer.close()


if __name__ == "__main__":
    main()
