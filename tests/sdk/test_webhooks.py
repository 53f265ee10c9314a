"""Checks deliveries, read from standard input, as a receiver does: with the signature check of the openai package, which follows Standard Webhooks."""

import json
import sys

from openai import InvalidWebhookSignatureError, OpenAI

told = json.load(sys.stdin)
client = OpenAI(api_key="unused", webhook_secret=told["secret"])
for delivery in told["deliveries"]:
    client.webhooks.verify_signature(delivery["body"], delivery["headers"])
    try:
        client.webhooks.verify_signature(delivery["body"] + " ", delivery["headers"])
    except InvalidWebhookSignatureError:
        continue
    sys.exit("a changed body passes")
print(len(told["deliveries"]), "verified")
