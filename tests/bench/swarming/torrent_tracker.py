"""torrent_tracker ADDRESS PORT - tells whoever announces itself of all the others."""
import http.server
import socket
import struct
import sys
import urllib.parse

peers = set()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query, encoding="latin1")
        me = socket.inet_aton(self.client_address[0]) + struct.pack(">H", int(query["port"][0]))
        others = b"".join(p for p in peers if p != me)
        if query.get("event") == ["stopped"]:
            peers.discard(me)
        else:
            peers.add(me)
        body = b"d8:intervali5e12:min intervali2e5:peers%d:%se" % (len(others), others)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
