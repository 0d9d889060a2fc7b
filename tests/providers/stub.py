"""A server of chat completions on the loopback interface, which does what a script says."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def said(text, finish="stop", usage=(10, 5), **message):
    """The body of an ordinary answer."""
    body = {"choices": [{"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}]}
    return body | ({"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {})


def first_tokens(**log_p):
    """The body of an answer with the log-probabilities of its first token."""
    top = [{"token": token, "logprob": value} for token, value in log_p.items()]
    return {"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"top_logprobs": top}]}}]}


class Step:
    """One response: a status, a body, headers.

    It comes `late` seconds later, with `drip` seconds after each byte, or is only its first `cut` bytes.
    """

    def __init__(self, body, status=200, headers=None, late=0.0, drip=0.0, cut=None):
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers, self.late, self.drip, self.cut = status, headers or {}, late, drip, cut


@contextmanager
def serving(script):
    """(base URL, the requests it got). `script`: steps in the order of requests, or a function of a request's body."""
    got, lock = [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                got.append({"path": self.path, "headers": dict(self.headers), "body": body, "at": time.monotonic()})
                step = script(body) if callable(script) else script[min(len(got), len(script)) - 1]
            step = step if isinstance(step, Step) else Step(step)
            time.sleep(step.late)
            self.send_response(step.status)
            self.send_header("Content-Length", str(len(step.body)))
            for name, value in step.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if step.drip:
                for byte in step.body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(step.drip)
            else:
                self.wfile.write(step.body[: step.cut])
            self.close_connection = True

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            """A client that has gone away is part of the play."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
