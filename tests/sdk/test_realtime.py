"""The openai package for Python, unmodified: realtime and responses over WebSockets, through a running Turnpike whose upstream is scripted.

Set by the test that starts the gateway: OPENAI_BASE_URL, OPENAI_API_KEY, and POOR_API_KEY, whose budget no turn fits into.
"""

import asyncio
import os
import unittest

from openai import AsyncOpenAI, OpenAI

client = OpenAI(max_retries=0)
# A busy machine takes longer for a handshake than the ten seconds of the default.
PATIENT = {"open_timeout": 60}


def until(connection, kind):
    for event in connection:
        if event.type == kind:
            return event
    raise AssertionError(f"the socket ended before {kind}")


class Realtime(unittest.TestCase):
    def test_each_turn_has_its_usage(self):
        with client.realtime.connect(model="gpt-realtime", websocket_connection_options=PATIENT) as connection:
            for _ in range(2):
                connection.response.create()
                done = until(connection, "response.done")
                self.assertEqual(done.response.usage.total_tokens, 219)

    def test_async(self):
        async def turn():
            async with AsyncOpenAI(max_retries=0).realtime.connect(model="gpt-realtime", websocket_connection_options=PATIENT) as connection:
                await connection.response.create()
                async for event in connection:
                    if event.type == "response.done":
                        return event.response.usage.total_tokens

        self.assertEqual(asyncio.run(turn()), 219)

    def test_a_turn_that_no_budget_covers_is_told_as_an_error(self):
        poor = OpenAI(max_retries=0, api_key=os.environ["POOR_API_KEY"])
        with poor.realtime.connect(model="gpt-realtime", websocket_connection_options=PATIENT) as connection:
            connection.response.create()
            self.assertEqual(until(connection, "error").error.code, "insufficient_quota")


class Responses(unittest.TestCase):
    def test_a_response(self):
        with client.responses.connect(websocket_connection_options=PATIENT) as connection:
            connection.send({"type": "response.create", "model": "gpt-4o", "input": "Hi", "max_output_tokens": 20})
            done = until(connection, "response.completed")
            self.assertEqual(done.response.usage.total_tokens, 15)


if __name__ == "__main__":
    unittest.main()
