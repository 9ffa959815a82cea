"""Somebody at the keyboard, over TCP: each line is a JSON list, a command to run here; the answer is its output as JSON."""
import json
import socketserver
import subprocess


class Keyboard(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            done = subprocess.run(json.loads(line), capture_output=True, text=True)
            self.wfile.write(json.dumps(done.stdout + done.stderr).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


Server(("0.0.0.0", 7000), Keyboard).serve_forever()
